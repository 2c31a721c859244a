// SPDX-License-Identifier: GPL-2.0
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "mailbox.h"

static struct mailbox *mailbox_of(struct file *file)
{
	/* misc_open() leaves the miscdevice there. */
	return container_of(file->private_data, struct mailbox, misc);
}

static ssize_t mailbox_read(struct file *file, char __user *to, size_t size, loff_t *pos)
{
	struct mailbox *box = mailbox_of(file);
	ssize_t rc;

	for (;;) {
		if (wait_event_interruptible(box->changed, box->state == MAILBOX_POSTED))
			return -ERESTARTSYS;
		mutex_lock(&box->lock);
		if (box->state == MAILBOX_POSTED)
			break;
		mutex_unlock(&box->lock);
	}
	if (size < box->request_len) {
		rc = -EMSGSIZE;
	} else if (copy_to_user(to, box->request, box->request_len)) {
		rc = -EFAULT;
	} else {
		box->state = MAILBOX_TAKEN;
		rc = box->request_len;
	}
	mutex_unlock(&box->lock);
	return rc;
}

static ssize_t mailbox_write(struct file *file, const char __user *from, size_t size, loff_t *pos)
{
	struct mailbox *box = mailbox_of(file);
	ssize_t rc;

	if (size < 1 || size - 1 > box->response_max)
		return -EMSGSIZE;
	mutex_lock(&box->lock);
	if (box->state != MAILBOX_TAKEN) {
		rc = -EPIPE; /* nobody waits for it any more */
	} else if (copy_from_user(&box->error, from, 1) ||
		   copy_from_user(box->response, from + 1, size - 1)) {
		rc = -EFAULT;
	} else {
		box->response_len = size - 1;
		box->state = MAILBOX_ANSWERED;
		wake_up_all(&box->changed);
		rc = size;
	}
	mutex_unlock(&box->lock);
	return rc;
}

static const struct file_operations mailbox_fops = {
	.owner = THIS_MODULE,
	.read = mailbox_read,
	.write = mailbox_write,
};

int mailbox_init(struct mailbox *box, const char *name, size_t request_max, size_t response_max)
{
	int rc;

	mutex_init(&box->turn);
	mutex_init(&box->lock);
	init_waitqueue_head(&box->changed);
	box->request_max = request_max;
	box->response_max = response_max;
	box->request = kvzalloc(request_max, GFP_KERNEL);
	box->response = kvzalloc(response_max, GFP_KERNEL);
	box->misc.minor = MISC_DYNAMIC_MINOR;
	box->misc.name = name;
	box->misc.fops = &mailbox_fops;
	box->misc.mode = 0600;
	rc = box->request && box->response ? misc_register(&box->misc) : -ENOMEM;
	if (rc) {
		kvfree(box->request);
		kvfree(box->response);
	}
	return rc;
}

void mailbox_exit(struct mailbox *box)
{
	misc_deregister(&box->misc);
	kvfree(box->request);
	kvfree(box->response);
}

static void mailbox_set(struct mailbox *box, enum mailbox_state state)
{
	mutex_lock(&box->lock);
	box->state = state;
	mutex_unlock(&box->lock);
	wake_up_all(&box->changed);
}

int mailbox_call(struct mailbox *box, unsigned int seconds)
{
	bool answered;
	long left;

	mailbox_set(box, MAILBOX_POSTED);
	left = wait_event_interruptible_timeout(
		box->changed, box->state == MAILBOX_ANSWERED || READ_ONCE(box->closed),
		seconds ? seconds * HZ : MAX_SCHEDULE_TIMEOUT);
	answered = box->state == MAILBOX_ANSWERED;
	mailbox_set(box, MAILBOX_IDLE);
	if (answered)
		return -box->error;
	if (left < 0)
		return -EINTR;
	return left ? -ENODEV : -ETIMEDOUT;
}

void mailbox_close(struct mailbox *box, bool closed)
{
	WRITE_ONCE(box->closed, closed);
	wake_up_all(&box->changed);
}
