/* What a run cost; see timings.h. */
#include "lib/quant/timings.h"

#include <inttypes.h>
#include <string.h>
#include <sys/resource.h>

#include "lib/artifact/log.h"
#include "lib/base/json.h"
#include "lib/base/progress.h"

void timings_block(struct timings *t, double begun, int samples)
{
	double now = monotonic_seconds();
	if (t->first_samples == 0) {
		t->first = now - begun;
		t->first_end = now;
		t->first_samples = samples;
		return;
	}
	t->rest = now - t->first_end;
	t->rest_samples += samples;
}

static uint64_t peak_host_bytes(void)
{
	struct rusage usage;
	return getrusage(RUSAGE_SELF, &usage) == 0 ? (uint64_t)usage.ru_maxrss * 1024 : 0;
}

bool timings_append(const struct timings *t, const char *tree, const char *tool,
                    const char *target, const char *device, error *err)
{
	text line = { 0 };
	bool ok = log_begin_line(&line, tool, target, err);
	text_puts(&line, ",\"device\":");
	ok = ok && json_quote(&line, device, strlen(device));
	text_printf(&line, ",\"load\":%.6f,\"quantise\":%.6f,\"first\":%.6f,"
	            "\"first_samples\":%" PRId64 ",\"rest\":%.6f,\"rest_samples\":%" PRId64
	            ",\"host_bytes\":%" PRIu64 ",\"device_bytes\":%" PRIu64 "}\n", t->load,
	            t->quantise, t->first, t->first_samples, t->rest, t->rest_samples,
	            peak_host_bytes(), t->device_bytes);
	ok = ok && text_ok(&line, err) && log_append_line(tree, &line, err);
	text_free(&line);
	return ok;
}
