import type { AppView, UpdateStatus } from '../supervisor.ts'
import type { State } from './difference.ts'

const STATUS: Readonly<Record<UpdateStatus, string>> = {
  done: 'done',
  downloading: 'downloading',
  downloaded: 'downloaded',
  'applying changes': 'applying changes',
  aborted: 'aborted',
  rejected: 'rejected',
}

/** The member `apps` of a report (spec §19): apps of the target, no environment. */
export function reportedApps(apps: readonly AppView[]): State {
  const wanted = apps.filter((app) => app.wanted)
  return Object.fromEntries(wanted.map((app) => [app.uuid, reportedApp(app)]))
}

function reportedApp(app: AppView): State {
  const services = app.services
    .filter((service) => service.wanted)
    .map(({ serviceName, image, status, downloadProgress }) => {
      const progress = downloadProgress === null ? {} : { download_progress: downloadProgress }
      return [serviceName, { image, status, ...progress }]
    })
  const release = {
    update_status: STATUS[app.updateStatus],
    services: Object.fromEntries(services),
  }
  return {
    ...(app.appliedCommit === undefined ? {} : { release_uuid: app.appliedCommit }),
    releases: app.commit === undefined ? {} : { [app.commit]: release },
  }
}
