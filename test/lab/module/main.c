// SPDX-License-Identifier: GPL-2.0
/*
 * teelab - stands in for the hardware below two attestation ABIs, so that the
 * kernel's own code above them can be tested without it:
 *
 *   NSM: a virtio device with the NSM's id, which the distribution's nsm.ko
 *        binds to and serves as the real /dev/nsm.
 *   TDX: the misc device /dev/tdx_guest with its ioctl, and a report provider
 *        "tdx_guest" below the real configfs-tsm core (and, since 6.16, the
 *        measurement files below the real tsm-mr core).
 *
 * What the hardware would answer comes from programs in user space, through
 * /dev/labnsm and /dev/labqgs. Nothing here is secure: load it in a throw-away
 * guest only.
 *
 * Parameters, in /sys/module/teelab/parameters:
 *   tdx, nsm         write Y or N to plug a device in or out, as on a machine
 *                    that has or lacks it; both are out at first
 *   report_errno     errno that makes every TDREPORT ioctl fail, 0 for none
 *   quote_timeout_s  after how long a quote fails with ETIMEDOUT
 */
#include <linux/module.h>
#include <linux/moduleparam.h>

#include "teelab.h"

/* A device that parameters can plug in and out. */
struct plug {
	bool in;
	int (*plug)(void);
	void (*unplug)(void);
};

static int plug_set(const char *text, const struct kernel_param *param)
{
	struct plug *device = param->arg;
	bool in;
	int rc = kstrtobool(text, &in);

	if (rc || in == device->in)
		return rc;
	if (in)
		rc = device->plug();
	else
		device->unplug();
	if (!rc)
		device->in = in;
	return rc;
}

static int plug_get(char *text, const struct kernel_param *param)
{
	const struct plug *device = param->arg;

	return sysfs_emit(text, "%c\n", device->in ? 'Y' : 'N');
}

static const struct kernel_param_ops plug_ops = { .set = plug_set, .get = plug_get };

static struct plug tdx = { .plug = tdx_plug, .unplug = tdx_unplug };
static struct plug nsm = { .plug = nsm_plug, .unplug = nsm_unplug };

/* Sysfs only: at load time nothing is initialised yet when parameters are set. */
module_param_cb(tdx, &plug_ops, &tdx, 0644);
module_param_cb(nsm, &plug_ops, &nsm, 0644);

static int __init teelab_init(void)
{
	int rc = tdx_init();

	if (rc)
		return rc;
	rc = nsm_init();
	if (rc)
		tdx_exit();
	return rc;
}

/* No module_exit: the guest is thrown away. */
module_init(teelab_init);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Stands in for the hardware of TDX and NSM in tests");
