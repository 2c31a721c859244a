import { toHex } from '../../attest/hex.ts'
import { type AppInfo, deviceId, mrAggregated } from '../../attest/identity.ts'
import { decodeTdAttributes } from '../../attest/tdx/td-attributes.ts'
import type { TdBody } from '../../attest/tdx/td-body.ts'
import type { TdxClaims } from '../../attest/tdx/verify.ts'
import type { Claims } from './judge.ts'

/** What a quote, and the log beside it, say. */
export function tdxClaims({ quote, platform, tcb }: TdxClaims, info: AppInfo | undefined): Claims {
  return {
    ...(tcb && { tcb_status: tcb.status, advisory_ids: tcb.advisoryIds }),
    ...(platform && { fmspc: toHex(platform.fmspc), device_id: toHex(deviceId(platform.ppid)) }),
    ...measurements(quote),
    mr_aggregated: toHex(mrAggregated(quote)),
    ...(info && applicationClaims(info)),
  }
}

/** The fields of a TD's report; those that are usually zero only where they are not. */
export function measurements(td: TdBody): Claims {
  const seldom = {
    mr_config_id: td.mrConfigId,
    mr_owner: td.mrOwner,
    mr_owner_config: td.mrOwnerConfig,
    mr_service_td: td.mrServiceTd,
  }
  return {
    report_data: toHex(td.reportData),
    mrtd: toHex(td.mrtd),
    ...Object.fromEntries(td.rtmr.map((value, index) => [`rtmr${index}`, toHex(value)])),
    ...hexOf(seldom, (value) => value.some((byte) => byte !== 0)),
    mr_seam: toHex(td.mrSeam),
    td_attributes: toHex(td.tdAttributes),
    debug: decodeTdAttributes(td.tdAttributes).debug,
  }
}

function applicationClaims(info: AppInfo): Claims {
  const ids = {
    app_id: info.appId,
    compose_hash: info.composeHash,
    instance_id: info.instanceId,
    os_image_hash: info.osImageHash,
  }
  return {
    ...hexOf(ids, (value) => value.length > 0),
    ...(info.keyProvider !== undefined && { key_provider: info.keyProvider }),
    // Without a dstack boot it would be a hash of little.
    ...(info.appId && { mr_system: toHex(info.mrSystem) }),
  }
}

function hexOf(
  values: Readonly<Record<string, Uint8Array | undefined>>,
  keep: (value: Uint8Array) => boolean,
): Claims {
  const kept = Object.entries(values).filter(([, value]) => value !== undefined && keep(value))
  return Object.fromEntries(kept.map(([name, value]) => [name, toHex(value as Uint8Array)]))
}
