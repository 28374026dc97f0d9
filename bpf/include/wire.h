/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The records that cross from the kernel to user space: the only definition. All integers are in
 * host byte order, all padding is explicit. Fixed parts are
 * multiples of 8 bytes. Addresses are 16 bytes in
 * network order (v4 as v4-mapped v6), ports are host order. */
#ifndef HEDGEROW_WIRE_H
#define HEDGEROW_WIRE_H

#include <linux/types.h>

#define WIRE_CLASSES 64 /* as event::CLASSES */
#define WIRE_PATH_MAX 256
#define WIRE_ARGUMENTS_MAX 256
#define WIRE_NAME_MAX 128 /* of what execve() was given */

/* Classes and history codes that the programs choose themselves; all others come from the tables
 * that user space fills from event::calls. */
#define WIRE_CLASS_ODD 0
#define WIRE_CLASS_COMPAT 1
#define WIRE_CLASS_BORN 2
#define WIRE_CODE_BORN 509
#define WIRE_CODE_ODD 510
#define WIRE_TABLE_SIZE 512 /* system-call numbers and io_uring opcodes below this */

/* One entry of those tables. */
struct wire_call_info {
	__u16 code;  /* 9 bits; 0 stays out of the history */
	__u16 flags; /* enum wire_info_flags */
	__u8 class;
	__u8 reserved[3];
};
_Static_assert(sizeof(struct wire_call_info) == 8, "wire_call_info");

enum wire_info_flags {
	WIRE_INFO_STREAM = 1,     /* streamed as a call record */
	WIRE_INFO_EVIDENCE = 2,   /* streamed from a bucket of its own, into a ring half full */
	WIRE_INFO_IF_EXEC = 4,    /* streamed only where argument 2 has PROT_EXEC */
	WIRE_INFO_DESCRIPTOR = 8, /* a success returns a descriptor whose dentry names the file */
	WIRE_INFO_PATH_0 = 16,    /* argument 0 points to a path (claimed) */
	WIRE_INFO_PATH_1 = 32,    /* argument 1 points to a path (claimed) */
	WIRE_INFO_FORK = 64,      /* returning 0 means: born */
	WIRE_INFO_CREDENTIALS = 128,  /* may change the effective user or capabilities */
	WIRE_INFO_IF_NAMESPACE = 256, /* streamed only where argument 0 has CLONE_NEW* */
	WIRE_INFO_IF_ANONYMOUS = 512, /* streamed only where argument 3 has MAP_ANONYMOUS */
	WIRE_INFO_IF_PACKET = 1024,   /* streamed only where argument 0 is AF_PACKET or AF_XDP */
	WIRE_INFO_PATH_2 = 2048,      /* argument 2 points to a path (claimed) */
	WIRE_INFO_PATH_3 = 4096,      /* argument 3 points to a path (claimed) */
	WIRE_INFO_AT = 8192,          /* the argument before the path is its directory */
	WIRE_INFO_MAPS = 16384,       /* maps the file behind argument 4: used.bpf.h */
};

/* n-gram bitmaps: 2^14, 2^15 and 2^17 bits. */
#define WIRE_GRAM2_WORDS 256
#define WIRE_GRAM3_WORDS 512
#define WIRE_GRAM6_WORDS 2048

struct wire_grams {
	__u64 gram2[WIRE_GRAM2_WORDS];
	__u64 gram3[WIRE_GRAM3_WORDS];
	__u64 gram6[WIRE_GRAM6_WORDS];
};

/* A slot of the profile array, mapped by user space. `known` is written by user space, `pending`
 * (one half per parity of the epoch) by the kernel and taken out by user space. */
struct wire_profile {
	__u32 armed;    /* `known` is meant, from wire_control.known_since on */
	__u32 quiet;    /* nothing unseen for long: what WIRE_SHED_GRAMS spares itself */
	__u32 dirty[2]; /* that half of `pending` has bits */
	__u64 signal_boot_ns;
	struct wire_grams known;
	struct wire_grams pending[2];
};

/* What the drain thread steps; one word to compare on every call. */
struct wire_clock {
	__u32 epoch;
	__u32 generation; /* rows look their identity up again when it moves */
};

/* Written by user space while running. */
struct wire_control {
	struct wire_clock clock;
	__u32 closing;    /* the epoch that the iterators take out */
	__u32 learning;   /* programs get a slot at exec */
	__u32 proof_tgid; /* our marked child */
	/* The first epoch in which armed profiles hold, so that a window is counted against one
	 * state of them; 0: none yet. Written before the clock is stepped to it. */
	__u32 known_since;
	__u32 shed; /* bits of enum wire_shed; taken back before the clock is stepped */
};

/* What is not looked at, to cost less. Never: processes, rows, flows, what is evidence. */
enum wire_shed {
	WIRE_SHED_USED = 1,  /* files in use are not told: used.bpf.h */
	WIRE_SHED_NAMES = 2, /* answers of name servers are not copied */
	WIRE_SHED_GRAMS = 4, /* the order of calls of quiet programs is not checked */
	WIRE_SHED_READS =
		8, /* opens to read what everybody may read, and failed ones: stream.bpf.h */
	WIRE_SHED_USAGE = 16, /* bytes are not summed up: usage.bpf.c */
};

/* Workload number of the cgroups that hold no unit. There the service at the root of a process's
 * lineage has a number of its own. */
#define WIRE_WORKLOAD_HOST 1

/* Key of those numbers. */
struct wire_service_key {
	__u64 service;
	__u32 login_uid;
	__u32 reserved;
};

/* Key and value of the map of programs with a profile: a program in a workload. */
struct wire_program_key {
	__u32 workload;
	__u32 reserved;
	__u64 profile_id;
};

/* Of the profile of processes that were running before they could be seen to exec: which script
 * they run is found out, and their slot given, by user space. */
#define WIRE_PROFILE_STRANGER_BIT 63

/* Kinds of interpreters: of two, the rules are in the kernel; the rest have a list of words. */
enum wire_interpreter {
	WIRE_INTERPRETER_BUSYBOX = 1,
	WIRE_INTERPRETER_LOADER = 2,
	WIRE_INTERPRETER_OTHER = 3, /* the first of the others */
};

/* What a word of an interpreter's arguments means; any other word that doesn't begin with - or +
 * is the script. */
enum wire_word {
	WIRE_WORD_VALUED = 1,  /* the next is its value */
	WIRE_WORD_INLINE = 2,  /* the program's text follows */
	WIRE_WORD_NAMED = 3,   /* the next is what is run */
	WIRE_WORD_NOTHING = 4, /* no script is run */
};

/* A word by its hash, as an interpreter reads it. */
struct wire_word_key {
	__u64 word;
	__u32 interpreter;
	__u32 reserved;
};

struct wire_program {
	__u32 slot;
	__u32 generation;
};

/* Sums of rows that found a full ring, by program. */
struct wire_spill_key {
	__u64 cgroup_id;
	__u64 program_id;
	__u64 service;
	__u32 login_uid;
	__u32 epoch;
	__u32 slot;
	__u32 reserved;
};

/* Counters of one CPU. */
struct wire_stats {
	__u64 records;   /* written to the ring */
	__u64 lost;      /* found it full */
	__u64 uncharged; /* of those: could not be charged to a row */
	__u64 signals;
	__u64 calls_uncounted;    /* calls, execs and forks for which no row could be made */
	__u64 spilled;            /* rows added to the sums of their program */
	__u64 profiles_refused;   /* programs that found no free profile slot */
	__u64 flow_peers_refused; /* packets of peers that found no room, counted without a name */
	__u64 used_untold;        /* files in use that were not told, see used.bpf.h */
	__u64 answers_refused; /* answers of name servers that were too many or too long to copy */
	__u64 shares_refused; /* found a ring half full, and their workload's share of it used up */
	__u64 usage_refused;  /* packets that were counted without their peer, or not at all */
	__u64 hits[8]; /* programs run, by enum wire_hook; counted for the marked child only */
};

enum wire_hook {
	WIRE_HOOK_CALLS = 0,
	WIRE_HOOK_EXEC = 1,
	WIRE_HOOK_FORK = 2,
	WIRE_HOOK_EXIT = 3,
	WIRE_HOOK_URING = 4,
	WIRE_HOOK_CGROUP = 5,
	WIRE_HOOK_FLOW = 6,
	WIRE_HOOK_PACKET = 7,
};

enum wire_kind {
	WIRE_ROW = 1,
	WIRE_EXEC = 2,
	WIRE_FORK = 3,
	WIRE_EXIT = 4,
	WIRE_CALL = 5,
	WIRE_SIGNAL = 6,
	WIRE_RAW = 7,
	WIRE_FLOW = 8,
	WIRE_CGROUP = 9,
	WIRE_PROCESS = 10,
	WIRE_USED = 11,
	WIRE_ANSWER = 12, /* in a ring of its own */
};

/* Heads every record. */
struct wire_header {
	__u16 kind; /* enum wire_kind */
	__u16 size; /* of the whole record, this header included */
	__u32 epoch;
	__u64 time_boot_ns;
};
_Static_assert(sizeof(struct wire_header) == 16, "wire_header");

enum wire_actor_flags {
	WIRE_ACTOR_UNKNOWN =
		2,            /* a stranger to the sensor: tgid, tid and program are as read late */
	WIRE_ACTOR_PROOF = 4, /* the marked child that proves the hooks */
};

/* The first process of the instance of a service that a process belongs to, see lineage.bpf.h. */
struct wire_root {
	__u64 start_boot_ns; /* 0: not known */
	__u64 service;       /* what it is named by: the profile id of what the root executed */
	__u32 tgid;
	/* Who logged in since the instance began, as of the last program that the process itself
	 * executed; ~0: nobody. */
	__u32 login_uid;
};
_Static_assert(sizeof(struct wire_root) == 24, "wire_root");

/* Who did it. */
struct wire_actor {
	__u64 start_boot_ns; /* of the thread group's leader */
	__u64 cgroup_id;
	__u64 program_id;
	__u32 tgid;
	__u32 tid;
	__u32 slot; /* of the n-gram profile; 0: unprofiled */
	__u32 flags;
	struct wire_root root;
};
_Static_assert(sizeof(struct wire_actor) == 64, "wire_actor");

enum wire_row_reason {
	WIRE_ROW_WINDOW = 0,
	WIRE_ROW_EXEC = 1, /* another program, workload or profile from here on */
	WIRE_ROW_EXIT = 2,
	WIRE_ROW_SPILLED = 3, /* sums of a program: tgid and tid are 0 */
	WIRE_ROW_EARLY = 4,   /* read before the window closed, not taken out */
};

/* Counts of one thread in one epoch. */
struct wire_counts {
	__u32 classes[WIRE_CLASSES];
	__u32 calls;
	__u32 errors;
	__u32 checked;
	__u32 unseen2;
	__u32 unseen3;
	__u32 unseen6;
	__u32 collapsed;
	__u32 lost;
	__u32 limited;
	__u32 reserved;
};
_Static_assert(sizeof(struct wire_counts) == 296, "wire_counts");

struct wire_row {
	struct wire_header header;
	struct wire_actor actor;
	__u32 reason; /* enum wire_row_reason */
	__u32 reserved;
	struct wire_counts counts;
};
_Static_assert(sizeof(struct wire_row) == 384, "wire_row");

/* A program's file: the real inode, below overlayfs. */
struct wire_file {
	__u64 device; /* super_block::s_dev */
	__u64 inode;
	__u64 ctime_ns;
	__u32 generation;
	__u32 mode;           /* inode::i_mode */
	__u32 uid;            /* owner */
	__u32 directory_mode; /* of the directory that holds it */
	__u32 directory_uid;
	__u32 links; /* 0: memfd or unlinked */
};
_Static_assert(sizeof(struct wire_file) == 48, "wire_file");

enum wire_exec_flags {
	WIRE_EXEC_SCRIPT = 1, /* an interpreter was put in: bprm->interp != bprm->filename */
	WIRE_EXEC_PRIVILEGED =
		2,              /* bprm->secureexec: set-id bits or file capabilities took effect */
	WIRE_EXEC_PATH_CUT = 4, /* deeper or longer than the walk goes: the head is missing */
	WIRE_EXEC_SOCKET = 8,   /* descriptor 0, 1 or 2 is an IPv4 or IPv6 socket */
	WIRE_EXEC_UNDER_LISTENER = 16, /* it, or who it descends from, listens: lineage.bpf.h */
	WIRE_EXEC_HOST = 32, /* by root, in the host's root directory, as it stands: host.bpf.h */
	/* Which layer of an overlay file system holds the file: a lower one, which can't be written
	 * through the overlay, of an overlay that the host's root mounted; or the upper one. */
	WIRE_EXEC_LOWER = 1 << 8,
	WIRE_EXEC_UPPER = 1 << 9,
	WIRE_EXEC_REMOTE =
		1 << 10, /* a server or another process tells its content: FUSE, NFS, ... */
};

struct wire_exec {
	struct wire_header header;
	struct wire_actor actor; /* what it became */
	__u64 previous_program_id;
	/* What has an n-gram profile of its own: the program, and the script that it was given as
	 * an argument (claimed). */
	__u64 profile_id;
	__u64 parent_start_boot_ns;
	__u32 parent_tgid;
	__u32 old_tid; /* differs from tid where another thread than the leader called exec */
	__u32 uid_before;
	__u32 uid;
	__u32 login_uid;
	__u32 flags; /* enum wire_exec_flags */
	struct wire_file file;
	__u16 path_size;      /* of the image, dentry and mount walk; no terminator */
	__u16 filename_size;  /* as given to execve (the script); claimed */
	__u16 arguments_size; /* argv, separated by zero bytes; claimed */
	__u16 reserved;
	/* path, filename and arguments follow without gaps */
};
_Static_assert(sizeof(struct wire_exec) == 184, "wire_exec");

struct wire_fork {
	struct wire_header header;
	struct wire_actor actor; /* the parent */
	__u64 child_start_boot_ns;
	__u32 child_tgid;
	__u32 child_tid;
};
_Static_assert(sizeof(struct wire_fork) == 96, "wire_fork");

struct wire_exit {
	struct wire_header header;
	struct wire_actor actor;
	__s32 code;    /* task_struct::exit_code */
	__u32 process; /* 1: the last thread of its process */
};
_Static_assert(sizeof(struct wire_exit) == 88, "wire_exit");

enum wire_call_flags {
	WIRE_CALL_COMPAT = 1,
	WIRE_CALL_URING = 2,   /* an io_uring request at its submission; no result yet */
	WIRE_CALL_CLAIMED = 4, /* the path was read from user memory */
	WIRE_CALL_PATH_CUT = 8,
	WIRE_CALL_FRESH = 16,    /* raw only: the history was reset before this call */
	WIRE_CALL_STREAMED = 32, /* raw only: also of the kind that is streamed as a call */
	WIRE_CALL_PROOF = 64,    /* raw only: of the marked child that proves the hooks */
	/* No call: rights that grew without one that grants any, as seen at the end of `number`.
	 * Arguments: effective user before and after, effective capabilities before and after. */
	WIRE_CALL_CREDENTIALS = 128,
};

struct wire_call {
	struct wire_header header;
	struct wire_actor actor;
	__s64 result;
	__u64 arguments[6];
	__s32 number; /* as the task used it; io_uring: the opcode */
	__u16 flags;  /* enum wire_call_flags */
	__u8 class;
	__u8 reserved;
	__u16 path_size;
	__u16 reserved2;
	__u32 file_flags; /* file::f_flags of the descriptor that was returned, where `path` is its
			   */
			  /* the path follows */
};
_Static_assert(sizeof(struct wire_call) == 152, "wire_call");

struct wire_signal {
	struct wire_header header;
	struct wire_actor actor;
	__u32 unseen6;
	__u32 calls;
};
_Static_assert(sizeof(struct wire_signal) == 88, "wire_signal");

/* A call of the full stream, with the identity of the row that counted it. */
struct wire_raw {
	struct wire_header header;
	__u64 start_boot_ns;
	__u64 cgroup_id;
	__u64 program_id;
	__s64 result;
	__u32 tgid;
	__u32 tid;
	__s32 number; /* as the task used it; io_uring: the opcode */
	__u16 flags;  /* enum wire_call_flags */
	__u16 slot;
};
_Static_assert(sizeof(struct wire_raw) == 64, "wire_raw");

enum wire_flow_phase {
	WIRE_FLOW_START = 0,
	WIRE_FLOW_INTERIM = 1,
	WIRE_FLOW_FINAL = 2,
	WIRE_FLOW_FAILED = 3,
};

/* One socket's traffic since its previous record. */
struct wire_flow {
	struct wire_header header;
	struct wire_actor actor;
	__u64 cookie;
	__u64 bytes_out;
	__u64 bytes_in;
	__u64 packets_out;
	__u64 packets_in;
	__u8 local_address[16];
	__u8 peer_address[16];
	__u16 local_port;
	__u16 peer_port;
	__u8 phase;    /* enum wire_flow_phase */
	__u8 protocol; /* IPPROTO_* */
	__u8 inbound;
	__u8 reserved;
	__u32 retransmits;
	__u32 rtt_us; /* ~0: unavailable */
	__u32 netns;
	__u32 reserved2;
};
_Static_assert(sizeof(struct wire_flow) == 176, "wire_flow");

/* A cgroup was made (or removed), so that user space can name its workload before it is gone. */
struct wire_cgroup {
	struct wire_header header;
	__u64 id;
	__u32 removed;
	__u16 path_size;
	__u16 reserved;
	/* the path below the cgroup root follows */
};
_Static_assert(sizeof(struct wire_cgroup) == 32, "wire_cgroup");

/* A process that stood before the sensor, told once at its start. */
struct wire_process {
	struct wire_header header;
	struct wire_actor actor;
};
_Static_assert(sizeof(struct wire_process) == 80, "wire_process");

enum wire_used_flags {
	WIRE_USED_READ = 1, /* opened by a name that interpreters read; else mapped executable */
	WIRE_USED_PATH_CUT = 2,
};

/* A file that a program uses as code, other than by executing it. */
struct wire_used {
	struct wire_header header;
	struct wire_actor actor;
	struct wire_file file;
	__u16 flags; /* enum wire_used_flags */
	__u16 path_size;
	__u32 reserved;
	/* the path follows */
};
_Static_assert(sizeof(struct wire_used) == 136, "wire_used");

#define WIRE_ANSWER_MAX 1232 /* what resolvers ask servers not to exceed */

/* The payload of a datagram that came from port 53; claimed. */
struct wire_answer {
	struct wire_header header;
	__u32 netns; /* of the socket that it came to */
	__u16 size;
	__u16 reserved;
	__u8 bytes[WIRE_ANSWER_MAX];
};
_Static_assert(sizeof(struct wire_answer) == 1256, "wire_answer");

/* Of whom bytes are counted, where, and with whom; an unspecified peer stands for all without room.
 */
struct wire_usage_key {
	__u64 cgroup_id;
	__u64 program_id;
	__u64 service;
	__u32 login_uid;
	__u32 uid; /* who made the socket or accepted on it, as the host counts */
	__u32 ifindex;
	__u32 netns;
	__u8 peer[16];
};
_Static_assert(sizeof(struct wire_usage_key) == 56, "wire_usage_key");

struct wire_usage_way {
	__u64 bytes;
	__u64 extra;    /* headers of segments that hardware cuts or has joined */
	__u64 segments; /* packets, had all been cut */
};

struct wire_usage {
	char device[16];         /* the interface's name; ends with a zero byte */
	struct wire_actor owner; /* one of those that the key stands for */
	struct wire_usage_way in;
	struct wire_usage_way out;
};
_Static_assert(sizeof(struct wire_usage) == 128, "wire_usage");

#include "deny_wire.h"

#endif
