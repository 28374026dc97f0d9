/* SPDX-License-Identifier: GPL-2.0-only */
/* The few kernel types in use, relocated by CO-RE at load: only the fields named here are read, so
 * their order and offsets don't matter. Flavours (`___old`) cover fields that changed shape; which
 * one a kernel has is decided in compat.bpf.h. */
#ifndef HEDGEROW_KERNEL_H
#define HEDGEROW_KERNEL_H

#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_endian.h>

#ifndef NULL
#define NULL ((void *)0)
#endif
typedef _Bool bool;
#define true 1
#define false 0

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8;
	unsigned long ax, cx, dx, si, di, orig_ax, ip, sp;
};
#else
struct pt_regs {
	__u64 regs[31];
	__u64 orig_x0;
	__s32 syscallno;
};
#endif

typedef struct {
	int counter;
} atomic_like_t;

struct kuid_like {
	__u32 val;
};

struct qstr {
	__u32 len; /* inside the anonymous union of the kernel's qstr */
	const unsigned char *name;
};

struct user_namespace {
	int level; /* 0: the host's */
	struct user_namespace *parent;
	struct kuid_like owner; /* effective user id of who made it, as the host counts */
};

struct super_block {
	__u32 s_dev;
	unsigned long s_magic;
	struct dentry *s_root;
	struct user_namespace *s_user_ns;
};

struct timespec64 {
	__s64 tv_sec;
	long tv_nsec;
};

struct inode {
	__u16 i_mode;
	struct kuid_like i_uid;
	unsigned long i_ino;
	__u32 i_nlink;
	__u32 i_generation;
	struct super_block *i_sb;
	__s64 i_ctime_sec; /* 6.11 and newer */
	__u32 i_ctime_nsec;
};

struct inode___6_6 {
	struct timespec64 __i_ctime;
};

struct inode___6_1 {
	struct timespec64 i_ctime;
};

struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
	struct super_block *d_sb;
};

struct vfsmount {
	struct dentry *mnt_root;
	struct super_block *mnt_sb;
};

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct file {
	unsigned int f_mode;
	unsigned int f_flags; /* without those that only open() itself heeds */
	struct path f_path;
	struct inode *f_inode;
	void *private_data;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct fs_struct {
	struct path root;
	struct path pwd;
};

/* overlayfs, in the kernel or as a module that is loaded before us. */
struct ovl_path {
	struct dentry *dentry;
};

struct ovl_entry {
	unsigned int __numlower;
	struct ovl_path __lowerstack[];
};

struct ovl_inode {
	struct inode vfs_inode;
	struct dentry *__upperdentry;
	struct ovl_entry *oe; /* 6.5 and newer */
};

struct ovl_inode___6_1 {
	struct ovl_path lowerpath;
};

struct kernfs_node {
	__u64 id;
	const char *name;
};

struct cgroup_root {
	int hierarchy_id;
};

struct cgroup {
	struct kernfs_node *kn;
	struct cgroup_root *root;
	int level;
};

struct css_set {
	struct cgroup *dfl_cgrp;
};

struct cap_like {
	__u64 val; /* 6.3 and newer */
};

struct cred {
	struct kuid_like uid;
	struct kuid_like euid;
	struct cap_like cap_effective;
	struct user_namespace *user_ns;
};

struct cap_like___6_1 {
	__u32 cap[2];
};

struct cred___6_1 {
	struct cap_like___6_1 cap_effective;
};

struct signal_struct {
	atomic_like_t live;
	struct task_struct *group_exec_task; /* which kills its process's other threads */
	unsigned int is_child_subreaper : 1;
};

struct upid {
	int nr;
	struct pid_namespace *ns;
};

struct pid_namespace {
	struct task_struct *child_reaper;
};

struct pid {
	unsigned int level;
	struct upid numbers[];
};

struct mm_struct {
	struct file *exe_file;
	unsigned long arg_start;
	unsigned long arg_end;
	unsigned long env_start;
	unsigned long env_end;
};

struct thread_info {
	unsigned long flags;
	__u32 status; /* x86 */
};

struct ns_common {
	unsigned int inum;
};

struct net {
	struct ns_common ns;
};

struct nsproxy {
	struct uts_namespace *uts_ns;
	struct ipc_namespace *ipc_ns;
	struct mnt_namespace *mnt_ns;
	struct pid_namespace *pid_ns_for_children;
	struct net *net_ns;
	struct cgroup_namespace *cgroup_ns;
};

struct task_struct {
	struct thread_info thread_info;
	unsigned int flags;
	int pid;
	int tgid;
	int exit_code;
	__u64 start_boottime;
	struct kuid_like loginuid;
	unsigned int sessionid;
	struct task_struct *group_leader;
	struct task_struct *real_parent;
	struct mm_struct *mm;
	struct files_struct *files;
	struct fs_struct *fs;
	struct signal_struct *signal;
	struct css_set *cgroups;
	struct nsproxy *nsproxy;
	struct pid *thread_pid;
	const struct cred *real_cred;
	/* What it acts with: another one while it serves a ring's request. */
	const struct cred *cred;
	char comm[16];
};

struct linux_binprm {
	struct file *file;
	const char *filename;
	const char *interp;
	unsigned int secureexec : 1;
};

struct filename {
	const char *name; /* copied from the caller's memory */
};

struct open_how {
	__u64 flags;
	__u64 mode;
};

/* What an io_uring open was asked for, in place of the request's file. */
struct io_open {
	int dfd;
	struct filename *filename;
	struct open_how how;
};

struct io_kiocb {
	struct file *file;
	__u8 opcode;
	struct task_struct *task; /* 6.12 and older */
};

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
	__u64 session_id;
	__u64 seq_num;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
};

#pragma clang attribute pop

#define PF_IO_WORKER 0x00000010
#define PF_KTHREAD 0x00200000

#endif
