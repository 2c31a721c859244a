/* SPDX-License-Identifier: GPL-2.0 */
#ifndef TEELAB_MAILBOX_H
#define TEELAB_MAILBOX_H

#include <linux/miscdevice.h>
#include <linux/mutex.h>
#include <linux/wait.h>

enum mailbox_state {
	MAILBOX_IDLE,
	MAILBOX_POSTED,		/* a request waits for a read() */
	MAILBOX_TAKEN,		/* user space works on it */
	MAILBOX_ANSWERED,	/* write() has left the response */
};

/*
 * Hands requests of the kernel to a program in user space, one at a time: each
 * read() on the misc device is one request, each write() its response, behind
 * an octet that is the errno to fail with, or 0.
 */
struct mailbox {
	struct miscdevice misc;
	struct mutex turn;	/* held by the caller from post to reading @response */
	struct mutex lock;	/* guards all below */
	wait_queue_head_t changed;
	enum mailbox_state state;
	bool closed;		/* mailbox_call() fails at once */
	u8 *request, *response;
	u8 error;		/* errno in place of a response */
	size_t request_len, request_max, response_len, response_max;
};

/* Allocates the buffers and creates /dev/<name>, mode 0600. */
int mailbox_init(struct mailbox *box, const char *name, size_t request_max, size_t response_max);

/* Undoes mailbox_init(). */
void mailbox_exit(struct mailbox *box);

/*
 * Posts @box->request (@box->request_len bytes) and waits for the response; the caller holds
 * @box->turn. Returns 0 or what user space wants it to fail with, -ETIMEDOUT after @seconds
 * (0: never), -EINTR on a signal, -ENODEV when closed.
 */
int mailbox_call(struct mailbox *box, unsigned int seconds);

/* While closed, calls fail, also the one that waits. */
void mailbox_close(struct mailbox *box, bool closed);

#endif
