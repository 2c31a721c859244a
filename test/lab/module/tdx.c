// SPDX-License-Identifier: GPL-2.0
/*
 * TDX as a guest sees it. The TDREPORT that everything is made from lies in
 * @td: the back end writes it to /dev/labtdreport once, requests put their
 * report data into it. Its MAC is the back end's and never right, as nothing
 * in a guest can check it.
 */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/tsm.h>
#include <linux/uaccess.h>
#include <linux/version.h>
#include <uapi/linux/tdx-guest.h>

#include "mailbox.h"
#include "teelab.h"

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 16, 0)
#include <crypto/sha2.h>
#include <linux/tsm-mr.h>
#else
/* The names before 6.16. */
#define tsm_report_ops tsm_ops
#define tsm_report_register tsm_register
#define tsm_report_unregister tsm_unregister
#endif

/* Intel TDX Module ABI: TDREPORT_STRUCT. */
#define REPORTDATA_AT 128
#define TDINFO_AT 512

/* The largest Quote; above what the core passes on (32 KiB in 6.12), so that its limit shows. */
#define QUOTE_MAX (256 << 10)

static int report_errno;
static uint quote_timeout_s = 30;
module_param(report_errno, int, 0644);
module_param(quote_timeout_s, uint, 0644);

static struct mailbox quotes;
static DEFINE_MUTEX(td_lock);
static u8 td[TDX_REPORT_LEN];

static int td_report(const u8 *reportdata, u8 *report)
{
	if (report_errno)
		return -report_errno;
	mutex_lock(&td_lock);
	memcpy(td + REPORTDATA_AT, reportdata, TDX_REPORTDATA_LEN);
	memcpy(report, td, TDX_REPORT_LEN);
	mutex_unlock(&td_lock);
	return 0;
}

/* ---- /dev/labtdreport: what the back end makes of this TD ---- */

static ssize_t template_write(struct file *file, const char __user *from, size_t size, loff_t *pos)
{
	ssize_t rc = size;

	if (size != TDX_REPORT_LEN)
		return -EINVAL;
	mutex_lock(&td_lock);
	if (copy_from_user(td, from, size))
		rc = -EFAULT;
	mutex_unlock(&td_lock);
	return rc;
}

static const struct file_operations template_fops = {
	.owner = THIS_MODULE,
	.write = template_write,
};

static struct miscdevice template = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "labtdreport",
	.fops = &template_fops,
	.mode = 0600,
};

/* ---- /dev/tdx_guest ---- */

static long guest_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct tdx_report_req __user *user = (void __user *)arg;
	struct tdx_report_req *req;
	long rc;

	if (cmd != TDX_CMD_GET_REPORT0)
		return -ENOTTY;
	req = kmalloc(sizeof(*req), GFP_KERNEL);
	if (!req)
		return -ENOMEM;
	rc = copy_from_user(req->reportdata, user->reportdata, TDX_REPORTDATA_LEN) ? -EFAULT : 0;
	if (!rc)
		rc = td_report(req->reportdata, req->tdreport);
	if (!rc && copy_to_user(user->tdreport, req->tdreport, TDX_REPORT_LEN))
		rc = -EFAULT;
	kfree(req);
	return rc;
}

static const struct file_operations guest_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = guest_ioctl,
};

static struct miscdevice guest = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "tdx_guest",
	.fops = &guest_fops,
};

/* ---- the report provider ---- */

static int quote_new(struct tsm_report *report, void *data)
{
	int rc;

	if (report->desc.inblob_len != TDX_REPORTDATA_LEN)
		return -EINVAL;
	if (mutex_lock_interruptible(&quotes.turn))
		return -EINTR;
	rc = td_report(report->desc.inblob, quotes.request);
	quotes.request_len = TDX_REPORT_LEN;
	if (!rc)
		rc = mailbox_call(&quotes, quote_timeout_s);
	if (!rc) {
		report->outblob = kvmemdup(quotes.response, quotes.response_len, GFP_KERNEL);
		report->outblob_len = quotes.response_len;
		if (!report->outblob)
			rc = -ENOMEM;
	}
	mutex_unlock(&quotes.turn);
	return rc;
}

static bool text_visible(int index)
{
	return index == TSM_REPORT_GENERATION || index == TSM_REPORT_PROVIDER;
}

static bool binary_visible(int index)
{
	return index == TSM_REPORT_INBLOB || index == TSM_REPORT_OUTBLOB;
}

static const struct tsm_report_ops provider = {
	.name = "tdx_guest",
	.report_new = quote_new,
	.report_attr_visible = text_visible,
	.report_bin_attr_visible = binary_visible,
};

/* ---- the measurement files ---- */

#ifdef TSM_MR_F_RTMR

#define MR(name, at) .mr_value = td + TDINFO_AT + (at), TSM_MR_(name, SHA384)
static struct tsm_measurement_register registers[] = {
	{ MR(rtmr0, 208) | TSM_MR_F_RTMR },
	{ MR(rtmr1, 256) | TSM_MR_F_RTMR },
	{ MR(rtmr2, 304) | TSM_MR_F_RTMR },
	{ MR(rtmr3, 352) | TSM_MR_F_RTMR },
	{ MR(mrtd, 16) },
	{ MR(mrconfigid, 64) | TSM_MR_F_NOHASH },
	{ MR(mrowner, 112) | TSM_MR_F_NOHASH },
	{ MR(mrownerconfig, 160) | TSM_MR_F_NOHASH },
};

static int registers_refresh(const struct tsm_measurements *tm)
{
	return report_errno ? -report_errno : 0;
}

static int registers_write(const struct tsm_measurements *tm,
			   const struct tsm_measurement_register *mr, const u8 *digest)
{
	struct sha384_ctx hash;

	mutex_lock(&td_lock);
	sha384_init(&hash);
	sha384_update(&hash, mr->mr_value, SHA384_DIGEST_SIZE);
	sha384_update(&hash, digest, SHA384_DIGEST_SIZE);
	sha384_final(&hash, mr->mr_value);
	mutex_unlock(&td_lock);
	return 0;
}

static struct tsm_measurements measurements = {
	.mrs = registers,
	.nr_mrs = ARRAY_SIZE(registers),
	.refresh = registers_refresh,
	.write = registers_write,
};

static const struct attribute_group *guest_groups[2];

static int registers_init(void)
{
	guest_groups[0] = tsm_mr_create_attribute_group(&measurements);
	if (IS_ERR(guest_groups[0]))
		return PTR_ERR(guest_groups[0]);
	guest.groups = guest_groups;
	return 0;
}

#else
static int registers_init(void) { return 0; }
#endif

/* ---- plugging ---- */

int tdx_plug(void)
{
	int rc = misc_register(&guest);

	if (rc)
		return rc;
	rc = tsm_report_register(&provider, NULL);
	if (rc)
		misc_deregister(&guest);
	return rc;
}

void tdx_unplug(void)
{
	tsm_report_unregister(&provider);
	misc_deregister(&guest);
}

int tdx_init(void)
{
	int rc = mailbox_init(&quotes, "labqgs", TDX_REPORT_LEN, QUOTE_MAX);

	if (rc)
		return rc;
	rc = registers_init();
	if (!rc)
		rc = misc_register(&template);
	if (rc)
		mailbox_exit(&quotes);
	return rc;
}

void tdx_exit(void)
{
	misc_deregister(&template);
	mailbox_exit(&quotes);
}
