/* SPDX-License-Identifier: GPL-2.0-only */
/* Which script an interpreter was asked to run, as a hash: what the arguments of an exec say.
 * Follows the rules by which user space names it, with the tables that user space fills. */
#ifndef HEDGEROW_SCRIPT_BPF_H
#define HEDGEROW_SCRIPT_BPF_H

#include "identity.bpf.h"
#include "scratch.bpf.h"

#define HASH_BASIS 0xcbf29ce484222325ULL /* FNV-1a */
#define HASH_PRIME 0x100000001b3ULL
#define INLINE_SCRIPT 1 /* program text, whatever it says */

/* Kinds of interpreters (enum wire_interpreter and up) by the hash of their file's name, without
 * the digits and dots at its end. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u64);
	__type(value, __u32);
} interpreters __weak SEC(".maps");

/* What words mean to an interpreter: enum wire_word. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, struct wire_word_key);
	__type(value, __u32);
} interpreter_words __weak SEC(".maps");

/* What the loops below work on; loops of their own would be verified byte by byte. */
struct script_walk {
	struct scratch *scratch;
	__u32 from;
	__u32 size;
};

static long name_byte(__u32 index, struct script_walk *walk)
{
	struct words *words = &walk->scratch->words;
	__u8 c = words->name[index & (INTERPRETER_NAME_MAX - 1)];

	if (!c)
		return 1;
	words->hash = (words->hash ^ c) * HASH_PRIME;
	words->last = (words->last << 8 | c) & 0xffffff;
	if (words->last == 0x2e736f) /* .so */
		words->library = 1;
	if (c != '.' && (c < '0' || c > '9'))
		words->stem = words->hash;
	return 0;
}

/* Kind of the interpreter that `bprm` runs; 0 for any other program. */
static __noinline __u32 interpreter_kind(struct linux_binprm *bprm, struct scratch *scratch)
{
	struct script_walk walk = {.scratch = scratch};
	struct words *words = &scratch->words;
	__u32 *kind;

	__builtin_memset(words, 0, sizeof(*words));
	words->hash = HASH_BASIS;
	words->stem = HASH_BASIS;
	bpf_probe_read_kernel_str(words->name, sizeof(words->name),
				  BPF_CORE_READ(bprm, file, f_path.dentry, d_name.name));
	bpf_loop(INTERPRETER_NAME_MAX, name_byte, &walk, 0);
	if (words->library && words->name[0] == 'l' && words->name[1] == 'd' &&
	    words->name[2] == '-')
		return WIRE_INTERPRETER_LOADER;
	kind = bpf_map_lookup_elem(&interpreters, &words->stem);
	return kind ? *kind : 0;
}

static __always_inline void script_found(struct words *words, __u64 script)
{
	words->script = script;
	words->done = 1;
}

static __always_inline __u32 word_meaning(const struct words *words, __u64 hash)
{
	struct wire_word_key key = {.word = hash, .interpreter = words->interpreter};
	__u32 *meaning = bpf_map_lookup_elem(&interpreter_words, &key);

	return meaning ? *meaning : 0;
}

/* The applet is the name that busybox is called by, or the word after its own. */
static __always_inline void applet_word(struct words *words, __u32 index)
{
	if (index || !word_meaning(words, words->base))
		script_found(words, words->base);
}

/* A word has come to its end. */
static __noinline int script_word(struct words *words)
{
	__u32 index = words->index++;

	if (words->interpreter == WIRE_INTERPRETER_BUSYBOX) {
		applet_word(words, index);
		return 0;
	}
	if (!index)
		return 0;
	if (words->named) {
		script_found(words, mix64(words->named ^ words->hash));
		return 0;
	}
	if (words->skip) {
		words->skip = 0;
		return 0;
	}
	switch (word_meaning(words, words->hash)) {
	case WIRE_WORD_VALUED:
		words->skip = 1;
		break;
	case WIRE_WORD_INLINE:
		script_found(words, INLINE_SCRIPT);
		break;
	case WIRE_WORD_NAMED:
		words->named = words->hash;
		break;
	case WIRE_WORD_NOTHING:
		script_found(words, 0);
		break;
	default:
		if (words->first != '-' && words->first != '+')
			script_found(words, words->hash);
	}
	return 0;
}

static __always_inline void word_begin(struct words *words)
{
	words->hash = HASH_BASIS;
	words->base = HASH_BASIS;
	words->first = 0;
	words->length = 0;
}

static __always_inline void word_byte(struct words *words, __u8 c)
{
	if (!words->length++)
		words->first = c;
	words->hash = (words->hash ^ c) * HASH_PRIME;
	if (c == '/')
		words->base = HASH_BASIS;
	else if (c != '-' || words->base != HASH_BASIS)
		words->base = (words->base ^ c) * HASH_PRIME;
}

static long argument_byte(__u32 index, struct script_walk *walk)
{
	struct words *words = &walk->scratch->words;
	__u8 c;

	if (index >= walk->size || words->done)
		return 1;
	c = walk->scratch->bytes[(walk->from + index) & (sizeof(walk->scratch->bytes) - 1)];
	if (c) {
		word_byte(words, c);
		return 0;
	}
	script_word(words);
	word_begin(words);
	return 0;
}

/* Hash of the script that the arguments at `from` name, 0 for none. */
static __noinline __u64 script_of_arguments(struct scratch *scratch, __u32 from, __u32 size,
					    __u32 interpreter)
{
	struct script_walk walk = {.scratch = scratch, .from = from, .size = size};
	struct words *words = &scratch->words;

	__builtin_memset(words, 0, sizeof(*words));
	words->interpreter = interpreter;
	word_begin(words);
	bpf_loop(WIRE_ARGUMENTS_MAX, argument_byte, &walk, 0);
	if (!words->done && words->length)
		script_word(words);
	return words->script;
}

#endif
