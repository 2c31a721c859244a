import { containerSuite } from './helpers/zos-container-suite.ts'

// What differs between the runtimes is proven on Docker.
if ((process.env.CVMD_TEST_RUNTIME ?? 'node') === 'node') containerSuite('podman')
