/* SPDX-License-Identifier: BSD-2-Clause */
/* What an exchange says as a gRPC call (grpc.io, PROTOCOL-HTTP2). Views are into the exchange. */
#ifndef TLSTRACE_GRPC_H
#define TLSTRACE_GRPC_H

#include "exchange/exchange.h"

struct grpc {
	struct bytes service; /* data NULL: not known, as below */
	struct bytes method;
	bool has_status;
	uint32_t status;
	struct bytes message; /* percent-encoded */
};

/* Whether it is a gRPC call; then *ret_grpc is set. */
bool grpc__of(const struct exchange *exchange, struct grpc *ret_grpc);

/* Appends a percent-decoded message; what is no escape stays. 0, -ENOMEM or -ENOSPC. */
int grpc__decode(struct bytes message, struct buf *out);

#endif
