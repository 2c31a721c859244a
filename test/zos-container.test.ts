import { containerSuite } from './helpers/zos-container-suite.ts'

containerSuite('docker')
