/* SPDX-License-Identifier: BSD-2-Clause */
/* tlstrace: shows every HTTP request that programs make or serve over TLS. */
#include "capture/check.h"
#include "capture/explain.h"
#include "log.h"
#include "options.h"
#include "trace.h"

int main(int argc, char **argv)
{
	static const enum log_level levels[] = {LOG_ALWAYS, LOG_WARNING, LOG_VERBOSE, LOG_DEBUG};
	struct options options;
	int status;

	options__parse(argc, argv, &options);
	log__set_level(levels[options.verbosity > 2 ? 3 : options.verbosity + 1]);
	if (options.check)
		status = check__run();
	else if (options.explain)
		status = explain__run(options.explain);
	else if (options.replay_path)
		status = replay__run(&options);
	else
		status = trace__run(&options);
	options__free(&options);
	return status;
}
