/* SPDX-License-Identifier: GPL-2.0-only */
/* Records with a path: names of the kernel's own dentries, walked up through the mounts to the root
 * of the mount namespace, and strings that a caller only claims. */
#ifndef HEDGEROW_PATH_BPF_H
#define HEDGEROW_PATH_BPF_H

#include "scratch.bpf.h"
#include "compat.bpf.h"

#define PATH_COMPONENTS 32

/* Puts "/name" in front; false where there is no room. */
static __always_inline bool path_prepend(struct scratch *scratch, struct dentry *dentry)
{
	__u32 length = BPF_CORE_READ(dentry, d_name.len);
	const unsigned char *name = BPF_CORE_READ(dentry, d_name.name);
	__u32 start = scratch->start;

	if (!length)
		return true;
	if (length > 255 || start < PATH_END - WIRE_PATH_MAX + length + 1) {
		scratch->cut = 1;
		return false;
	}
	start = (start - length) & (PATH_END - 1);
	if (bpf_probe_read_kernel(&scratch->bytes[start], length & 255, name)) {
		scratch->cut = 1;
		return false;
	}
	start = (start - 1) & (PATH_END - 1);
	scratch->bytes[start] = '/';
	scratch->start = start;
	return true;
}

/* Writes the path of an entry of a mount so that it ends at PATH_END. */
static __noinline int path_walk_from(struct dentry *dentry, struct vfsmount *vfs,
				     struct scratch *scratch)
{
	scratch->start = PATH_END;
	scratch->cut = 0;
	for (int i = 0; i < PATH_COMPONENTS; i++) {
		struct dentry *parent = BPF_CORE_READ(dentry, d_parent);

		if (dentry == BPF_CORE_READ(vfs, mnt_root) || dentry == parent) {
			struct mount *mount =
				(void *)vfs - bpf_core_field_offset(struct mount, mnt);
			struct mount *above = BPF_CORE_READ(mount, mnt_parent);

			if (above == mount || !above) {
				/* A file of no directory (memfd, pipe) is all name. */
				if (scratch->start == PATH_END)
					path_prepend(scratch, dentry);
				return 0;
			}
			dentry = BPF_CORE_READ(mount, mnt_mountpoint);
			vfs = (void *)above + bpf_core_field_offset(struct mount, mnt);
			continue;
		}
		if (!path_prepend(scratch, dentry))
			return 0;
		dentry = parent;
	}
	scratch->cut = 1;
	return 0;
}

static __always_inline void path_walk(struct file *file, struct scratch *scratch)
{
	path_walk_from(BPF_CORE_READ(file, f_path.dentry), BPF_CORE_READ(file, f_path.mnt),
		       scratch);
}

#endif
