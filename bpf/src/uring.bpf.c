// SPDX-License-Identifier: GPL-2.0-only
// io_uring requests: with a polling kernel thread they run without any system call, so they are
// counted at their submission, as the calls they stand for. Hedgerow doesn't hook their completion.

#include "stream.bpf.h"

static __always_inline int uring_submit(struct io_kiocb *request)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct call call = {
		.number = BPF_CORE_READ(request, opcode),
		.uring = true,
		.request = request,
	};
	struct io_open *open = (void *)request + bpf_core_field_offset(struct io_kiocb, file);
	struct row *row = row_of(task);
	__u64 arguments[6] = {};
	struct wire_call_info info;
	bool streamed;

	if (!row)
		return call_uncounted();
	if (row_is_skipped(row))
		return 0;
	hook_hit(row, WIRE_HOOK_URING);
	info = call_info(&call);
	streamed = stream_wants(info.flags, arguments);
	if (full)
		call_raw(row, &call, streamed);
	call_count(row, &call, info);
	if (streamed && info.flags & WIRE_INFO_DESCRIPTOR && bpf_core_type_exists(struct io_open)) {
		arguments[2] = BPF_CORE_READ(open, how.flags);
		arguments[3] = BPF_CORE_READ(open, how.mode);
	}
	if (streamed)
		stream_call(row, task, &call, arguments, info.class << 16 | info.flags);
	return 0;
}

/* io_uring_submit_req: void (struct io_kiocb *req), 6.3 and newer */
SEC("tp_btf/io_uring_submit_req")
int BPF_PROG(on_uring_submit_req, struct io_kiocb *request)
{
	return uring_submit(request);
}

/* io_uring_submit_sqe: void (struct io_kiocb *req, bool force_nonblock), before that */
SEC("tp_btf/io_uring_submit_sqe")
int BPF_PROG(on_uring_submit_sqe, struct io_kiocb *request)
{
	return uring_submit(request);
}

char LICENSE[] SEC("license") = "GPL";
