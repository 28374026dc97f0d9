/* SPDX-License-Identifier: GPL-2.0-only */
/* Who a task is to the kernel: its program's cache key and its cgroup. No maps, so that the sensor
 * and the separately loaded deny object compute the same. */
#ifndef HEDGEROW_IDENTITY_BPF_H
#define HEDGEROW_IDENTITY_BPF_H

#include "compat.bpf.h"
#include "wire.h"

#define OVERLAYFS_SUPER_MAGIC 0x794c7630
#define OVERLAY_DEPTH 2 /* of overlays on overlays, as FILESYSTEM_MAX_STACK_DEPTH */

/* The inode that holds the data: below overlayfs, which has a device of its own per mount and no
 * generation. */
static __always_inline struct inode *real_inode(struct inode *inode)
{
	if (!bpf_core_type_exists(struct ovl_inode))
		return inode;
	for (int i = 0; i < OVERLAY_DEPTH; i++) {
		struct ovl_inode *ovl;
		struct dentry *below;
		struct inode *next;

		if (!inode || BPF_CORE_READ(inode, i_sb, s_magic) != OVERLAYFS_SUPER_MAGIC)
			return inode;
		ovl = (void *)inode - bpf_core_field_offset(struct ovl_inode, vfs_inode);
		below = BPF_CORE_READ(ovl, __upperdentry);
		if (!below)
			below = ovl_lower(ovl);
		next = below ? BPF_CORE_READ(below, d_inode) : NULL;
		if (!next)
			return inode;
		inode = next;
	}
	return inode;
}

/* Fills `key` from a program's file; directory, mode and owner are those that the file system in
 * front shows. */
static __always_inline bool file_key(struct file *file, struct wire_file *key)
{
	struct inode *front = file ? BPF_CORE_READ(file, f_inode) : NULL;
	struct inode *inode = front ? real_inode(front) : NULL;
	struct inode *directory;

	if (!inode)
		return false;
	key->device = BPF_CORE_READ(inode, i_sb, s_dev);
	key->inode = BPF_CORE_READ(inode, i_ino);
	key->ctime_ns = inode_ctime_ns(inode);
	key->generation = BPF_CORE_READ(inode, i_generation);
	key->mode = BPF_CORE_READ(front, i_mode);
	key->uid = BPF_CORE_READ(front, i_uid.val);
	key->links = BPF_CORE_READ(front, i_nlink);
	directory = BPF_CORE_READ(file, f_path.dentry, d_parent, d_inode);
	key->directory_mode = BPF_CORE_READ(directory, i_mode);
	key->directory_uid = BPF_CORE_READ(directory, i_uid.val);
	return true;
}

/* The finaliser of splitmix64. */
static __always_inline __u64 mix64(__u64 x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

/* The host's secret, fixed at load: whoever doesn't know it can make no file, and name no script,
 * that has another program's id, and learns nothing of a file from its id. Both objects have the
 * same. */
const volatile __u64 identity_key[2] __weak = {};

/* SipHash-1-3. */
struct sip {
	__u64 v0, v1, v2, v3;
};

static __always_inline __u64 rotate_left(__u64 x, int by)
{
	return x << by | x >> (64 - by);
}

static __always_inline void sip_round(struct sip *sip)
{
	sip->v0 += sip->v1;
	sip->v1 = rotate_left(sip->v1, 13) ^ sip->v0;
	sip->v0 = rotate_left(sip->v0, 32);
	sip->v2 += sip->v3;
	sip->v3 = rotate_left(sip->v3, 16) ^ sip->v2;
	sip->v0 += sip->v3;
	sip->v3 = rotate_left(sip->v3, 21) ^ sip->v0;
	sip->v2 += sip->v1;
	sip->v1 = rotate_left(sip->v1, 17) ^ sip->v2;
	sip->v2 = rotate_left(sip->v2, 32);
}

static __always_inline void sip_begin(struct sip *sip)
{
	sip->v0 = identity_key[0] ^ 0x736f6d6570736575ULL;
	sip->v1 = identity_key[1] ^ 0x646f72616e646f6dULL;
	sip->v2 = identity_key[0] ^ 0x6c7967656e657261ULL;
	sip->v3 = identity_key[1] ^ 0x7465646279746573ULL;
}

static __always_inline void sip_add(struct sip *sip, __u64 word)
{
	sip->v3 ^= word;
	sip_round(sip);
	sip->v0 ^= word;
}

/* Of `words` words, so that none is the beginning of another; never 0. */
static __always_inline __u64 sip_end(struct sip *sip, __u64 words)
{
	sip_add(sip, words << 59);
	sip->v2 ^= 0xff;
	for (int i = 0; i < 3; i++)
		sip_round(sip);
	return (sip->v0 ^ sip->v1 ^ sip->v2 ^ sip->v3) ?: 1;
}

/* Name of {device, inode, generation, ctime, script}; never 0. `script` is 0 without a script. */
static __always_inline __u64 program_id(const struct wire_file *key, __u64 script)
{
	struct sip sip;

	sip_begin(&sip);
	sip_add(&sip, key->device);
	sip_add(&sip, key->inode);
	sip_add(&sip, key->generation);
	sip_add(&sip, key->ctime_ns);
	sip_add(&sip, script);
	return sip_end(&sip, 5);
}

/* Hash of a kernel string's first 127 bytes; 0 for none. */
static __always_inline __u64 string_hash(const char *text)
{
	__u64 words[16] = {};
	struct sip sip;

	if (bpf_probe_read_kernel_str(words, sizeof(words), text) <= 1)
		return 0;
	sip_begin(&sip);
	for (int i = 0; i < 16; i++)
		sip_add(&sip, words[i]);
	return sip_end(&sip, 16);
}

/* Hash of the script that `bprm` runs through an interpreter, 0 where it runs the file itself. */
static __always_inline __u64 script_hash(struct linux_binprm *bprm)
{
	const char *filename = BPF_CORE_READ(bprm, filename);

	return BPF_CORE_READ(bprm, interp) == filename ? 0 : string_hash(filename);
}

/* The program of a task that was running before it could be seen to exec: the script, if any, is
 * not known. 0 for a kernel thread. */
static __always_inline __u64 running_program_id(struct task_struct *task)
{
	struct wire_file key = {};

	if (!file_key(BPF_CORE_READ(task, mm, exe_file), &key))
		return 0;
	return program_id(&key, 0);
}

/* Id of the task's cgroup in the v2 hierarchy. */
static __always_inline __u64 task_cgroup_id(struct task_struct *task)
{
	return BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id);
}

#endif
