/* SPDX-License-Identifier: GPL-2.0-only */
/* The order of a thread's calls, checked against what its program is known to do. */
#ifndef HEDGEROW_GRAMS_BPF_H
#define HEDGEROW_GRAMS_BPF_H

#include "rows.bpf.h"

/* The newest six codes of nine bits, the newest lowest; 0 is "none yet". */
#define HISTORY_BITS 9
#define HISTORY_MASK ((1ULL << 54) - 1)
#define HISTORY_COMPAT (1ULL << 62)

#define SIGNAL_MISSES 8                 /* unseen 6-grams ... */
#define SIGNAL_CALLS 256                /* ... within so many calls are worth a signal ... */
#define SIGNAL_GAP_NS (50 * 1000000ULL) /* ... at most one of a program in this time */

/* Pushes a code; false where it repeats the one before. 32-bit calls are a stream of their own. */
static __always_inline bool history_push(__u64 *history, __u16 code, bool compat)
{
	__u64 stream = compat ? HISTORY_COMPAT : 0;
	__u64 old = *history;

	if ((old & HISTORY_COMPAT) != stream)
		old = stream;
	if ((old & ((1 << HISTORY_BITS) - 1)) == code)
		return false;
	*history = (((old << HISTORY_BITS) | code) & HISTORY_MASK) | stream;
	return true;
}

static __always_inline __u64 gram_key(__u64 history, int length)
{
	return history & (((1ULL << (HISTORY_BITS * length)) - 1) | HISTORY_COMPAT);
}

static __always_inline bool gram_known(const struct row *row, const __u64 *words, __u64 position)
{
	return row->flags & ROW_KNOWS && words[position >> 6] & (1ULL << (position & 63));
}

/* Marks a position for user space, which takes the half out when its epoch has closed. */
static __always_inline void gram_pend(struct wire_profile *profile, __u32 parity, __u64 *words,
				      __u64 position)
{
	__u64 bit = 1ULL << (position & 63);

	if (words[position >> 6] & bit)
		return;
	__sync_fetch_and_or(&words[position >> 6], bit);
	profile->dirty[parity] = 1;
}

/* Wakes user space for a program that does many unseen things at once. */
static __noinline int gram_signal(struct row *row, struct wire_profile *profile,
				  struct wire_counts *counts)
{
	__u64 now = bpf_ktime_get_boot_ns(), last = profile->signal_boot_ns;
	struct wire_stats *cpu = cpu_stats();
	struct wire_signal *record;

	if (now - last < SIGNAL_GAP_NS ||
	    __sync_val_compare_and_swap(&profile->signal_boot_ns, last, now) != last)
		return 0;
	record = bpf_ringbuf_reserve(&signals, sizeof(*record), 0);
	if (!record)
		return 0;
	header_fill(&record->header, WIRE_SIGNAL, sizeof(*record));
	record->actor = row->actor;
	record->unseen6 = counts->unseen6;
	record->calls = counts->calls;
	bpf_ringbuf_submit(record, BPF_RB_FORCE_WAKEUP);
	if (cpu)
		__sync_fetch_and_add(&cpu->signals, 1);
	return 0;
}

/* An unseen 6-gram: are the shorter ones unseen, too? */
static __noinline int grams_missed(struct row *row, struct wire_profile *profile,
				   struct wire_counts *counts, __u64 position)
{
	__u32 parity = row->seen.epoch & 1;
	struct wire_grams *pending = &profile->pending[parity];

	counts->unseen6++;
	gram_pend(profile, parity, pending->gram6, position & ((1 << 17) - 1));
	if (row->flags & ROW_KNOWS) {
		if (counts->calls - row->misses_since > SIGNAL_CALLS) {
			row->misses_since = counts->calls;
			row->misses = 0;
		}
		if (++row->misses >= SIGNAL_MISSES)
			gram_signal(row, profile, counts);
	}
	position = (gram_key(row->history, 3) * gram_multiplier[1]) >> (64 - 15);
	if (gram_known(row, profile->known.gram3, position))
		return 0;
	counts->unseen3++;
	gram_pend(profile, parity, pending->gram3, position);
	position = (gram_key(row->history, 2) * gram_multiplier[0]) >> (64 - 14);
	if (gram_known(row, profile->known.gram2, position))
		return 0;
	counts->unseen2++;
	gram_pend(profile, parity, pending->gram2, position);
	return 0;
}

/* The longest first: where it is known, so are the shorter ones. */
static __always_inline void grams_check(struct row *row, struct wire_counts *counts)
{
	__u32 slot = row->actor.slot;
	struct wire_profile *profile;
	__u64 position;

	if (!slot)
		return;
	profile = bpf_map_lookup_elem(&profiles, &slot);
	if (!profile || (control.shed & WIRE_SHED_GRAMS && profile->quiet))
		return;
	counts->checked++;
	position = (gram_key(row->history, 6) * gram_multiplier[2]) >> (64 - 17);
	if (gram_known(row, profile->known.gram6, position))
		return;
	grams_missed(row, profile, counts, position);
}

#endif
