// SPDX-License-Identifier: GPL-2.0
/*
 * A virtio device with the Nitro Secure Module's id, on a transport of our
 * own: no bus, one virtqueue in plain memory. The kernel's nsm.ko queues two
 * buffers for each message, the request to read and the response to fill.
 */
#include <linux/device.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/virtio.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>
#include <linux/workqueue.h>
#include <uapi/linux/nsm.h>

#include "mailbox.h"
#include "teelab.h"

#define RING_SIZE 8

struct nsm_device {
	struct virtio_device virtio;
	struct virtqueue *queue;
	struct work_struct serve;
	void *ring;
	u16 next;	/* index in the available ring */
	u8 status;
};

static struct mailbox messages;
static struct workqueue_struct *worker;
static struct device *parent;
static struct nsm_device *plugged;

static struct nsm_device *of(struct virtio_device *virtio)
{
	return container_of(virtio, struct nsm_device, virtio);
}

/* VIRTIO 1.2, 2.7.8: gives a buffer back to the driver. */
static void push_used(const struct vring *ring, u16 head, u32 len)
{
	u16 index = le16_to_cpu((__force __le16)ring->used->idx);
	struct vring_used_elem *used = &ring->used->ring[index % ring->num];

	used->id = (__force __virtio32)cpu_to_le32(head);
	used->len = (__force __virtio32)cpu_to_le32(len);
	smp_wmb(); /* the element before the index that shows it */
	ring->used->idx = (__force __virtio16)cpu_to_le16(index + 1);
}

static u16 available(const struct vring *ring, u16 index)
{
	return le16_to_cpu((__force __le16)ring->avail->ring[index % ring->num]);
}

static void *memory_of(const struct vring_desc *desc)
{
	/* Without VIRTIO_F_ACCESS_PLATFORM addresses are physical ones. */
	return phys_to_virt(le64_to_cpu((__force __le64)desc->addr));
}

static size_t length_of(const struct vring_desc *desc)
{
	return le32_to_cpu((__force __le32)desc->len);
}

/* Carries one message to user space and back; false when the device goes away. */
static bool serve_message(struct nsm_device *nsm, const struct vring *ring, u16 request_head,
			  u16 response_head)
{
	const struct vring_desc *request = &ring->desc[request_head];
	const struct vring_desc *response = &ring->desc[response_head];
	size_t size = 0;
	bool ok;

	mutex_lock(&messages.turn);
	messages.request_len = min(length_of(request), messages.request_max);
	memcpy(messages.request, memory_of(request), messages.request_len);
	ok = mailbox_call(&messages, 0) == 0;
	if (ok) {
		size = min(messages.response_len, length_of(response));
		memcpy(memory_of(response), messages.response, size);
	}
	mutex_unlock(&messages.turn);
	if (!ok)
		return false;
	push_used(ring, request_head, 0);
	push_used(ring, response_head, size);
	vring_interrupt(0, nsm->queue);
	return true;
}

static void serve(struct work_struct *work)
{
	struct nsm_device *nsm = container_of(work, struct nsm_device, serve);
	const struct vring *ring = virtqueue_get_vring(nsm->queue);

	while ((u16)(le16_to_cpu((__force __le16)READ_ONCE(ring->avail->idx)) - nsm->next) >= 2) {
		u16 request, response;

		smp_rmb(); /* the index before the entries it covers */
		request = available(ring, nsm->next);
		response = available(ring, nsm->next + 1);
		nsm->next += 2;
		if (!serve_message(nsm, ring, request, response))
			return;
	}
}

static bool notify(struct virtqueue *queue)
{
	queue_work(worker, &of(queue->vdev)->serve);
	return true;
}

static size_t ring_bytes(void)
{
	return PAGE_ALIGN(vring_size(RING_SIZE, PAGE_SIZE));
}

static int find_vqs(struct virtio_device *virtio, unsigned int count, struct virtqueue *queues[],
		    struct virtqueue_info info[], struct irq_affinity *affinity)
{
	struct nsm_device *nsm = of(virtio);

	if (count != 1)
		return -EINVAL;
	nsm->ring = alloc_pages_exact(ring_bytes(), GFP_KERNEL | __GFP_ZERO);
	if (!nsm->ring)
		return -ENOMEM;
	nsm->next = 0;
	nsm->queue = vring_new_virtqueue(0, RING_SIZE, PAGE_SIZE, virtio, true, false, nsm->ring,
					 notify, info[0].callback, info[0].name);
	if (!nsm->queue) {
		free_pages_exact(nsm->ring, ring_bytes());
		return -ENOMEM;
	}
	queues[0] = nsm->queue;
	return 0;
}

static void del_vqs(struct virtio_device *virtio)
{
	struct nsm_device *nsm = of(virtio);

	mailbox_close(&messages, true);
	cancel_work_sync(&nsm->serve);
	vring_del_virtqueue(nsm->queue);
	free_pages_exact(nsm->ring, ring_bytes());
	nsm->status = 0; /* nsm.ko lets go without a reset, which the virtio core warns of */
}

static void config_get(struct virtio_device *virtio, unsigned int at, void *to, unsigned int size)
{
	memset(to, 0, size); /* the NSM has no configuration space */
}

static u8 get_status(struct virtio_device *virtio)
{
	return of(virtio)->status;
}

static void set_status(struct virtio_device *virtio, u8 status)
{
	of(virtio)->status = status;
}

static void reset(struct virtio_device *virtio)
{
	of(virtio)->status = 0;
}

static u64 get_features(struct virtio_device *virtio)
{
	return BIT_ULL(VIRTIO_F_VERSION_1);
}

static int finalize_features(struct virtio_device *virtio)
{
	vring_transport_features(virtio);
	return 0;
}

static const char *bus_name(struct virtio_device *virtio)
{
	return "teelab";
}

static const struct virtio_config_ops transport = {
	.get = config_get,
	.get_status = get_status,
	.set_status = set_status,
	.reset = reset,
	.find_vqs = find_vqs,
	.del_vqs = del_vqs,
	.get_features = get_features,
	.finalize_features = finalize_features,
	.bus_name = bus_name,
};

static void release(struct device *device)
{
	kfree(of(dev_to_virtio(device)));
}

int nsm_plug(void)
{
	struct nsm_device *nsm = kzalloc(sizeof(*nsm), GFP_KERNEL);
	int rc;

	if (!nsm)
		return -ENOMEM;
	INIT_WORK(&nsm->serve, serve);
	nsm->virtio.dev.parent = parent;
	nsm->virtio.dev.release = release;
	nsm->virtio.id.device = VIRTIO_ID_NITRO_SEC_MOD;
	nsm->virtio.id.vendor = VIRTIO_DEV_ANY_ID - 1;
	nsm->virtio.config = &transport;
	mailbox_close(&messages, false);
	rc = register_virtio_device(&nsm->virtio);
	if (rc)
		put_device(&nsm->virtio.dev);
	else
		plugged = nsm;
	return rc;
}

void nsm_unplug(void)
{
	unregister_virtio_device(&plugged->virtio);
}

int nsm_init(void)
{
	int rc;

	worker = alloc_ordered_workqueue("teelab", 0);
	if (!worker)
		return -ENOMEM;
	parent = root_device_register("teelab");
	rc = PTR_ERR_OR_ZERO(parent);
	if (rc)
		goto no_parent;
	rc = mailbox_init(&messages, "labnsm", NSM_REQUEST_MAX_SIZE, NSM_RESPONSE_MAX_SIZE);
	if (rc)
		goto no_mailbox;
	return 0;

no_mailbox:
	root_device_unregister(parent);
no_parent:
	destroy_workqueue(worker);
	return rc;
}
