/* SPDX-License-Identifier: GPL-2.0 */
#ifndef TEELAB_H
#define TEELAB_H

/* tdx.c: /dev/tdx_guest, the report provider, the measurement files. */
int tdx_init(void);
void tdx_exit(void);
int tdx_plug(void);
void tdx_unplug(void);

/* nsm.c: the virtio device that the kernel's own nsm.ko drives. */
int nsm_init(void);
int nsm_plug(void);
void nsm_unplug(void);

#endif
