/* stage: runs one command of the bench and notes what it cost.
 *
 *   stage RESULTS NAME TREE COMMAND [ARGUMENT]...
 *
 * Appends a line of JSON to RESULTS: the stage's name, its seconds from start to end, the
 * most memory that any process of it held, the exit code and, if that is not 0, what it
 * said last; and the line of timings (lib/quant/timings.h) that the command left in the
 * log of TREE, if it did. What the command says goes to RESULTS.log. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/file.h"
#include "lib/base/json.h"
#include "lib/base/progress.h"

enum { MAX_LOG = 1 << 28 };

struct stage {
	const char *results, *name, *tree;
	char log[PATH_BYTES];
	char **command;
	pid_t process;
	int code; /* as a shell tells it: 128 and the signal for one that was killed */
	double seconds;
	long peak_kib;
};

static void become_command(const struct stage *s)
{
	int fd = open(s->log, O_WRONLY | O_CREAT | O_TRUNC, 0666);
	if (fd >= 0 && dup2(fd, 1) == 1 && dup2(fd, 2) == 2)
		execvp(s->command[0], s->command);
	fprintf(stderr, "%s: cannot run: %s\n", s->command[0], strerror(errno));
	_exit(EXIT_ENVIRONMENT);
}

static bool run_command(struct stage *s, error *err)
{
	struct rusage usage;
	int status;
	double begun = monotonic_seconds();
	fflush(NULL);
	if ((s->process = fork()) < 0)
		return fail_errno(err, errno, "%s: cannot fork", s->command[0]);
	if (s->process == 0)
		become_command(s);
	while (wait4(s->process, &status, 0, &usage) < 0)
		if (errno != EINTR)
			return fail_errno(err, errno, "%s: cannot wait", s->command[0]);
	s->seconds = monotonic_seconds() - begun;
	s->code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	/* Of all processes that were waited for, the command's own among them. */
	s->peak_kib = getrusage(RUSAGE_CHILDREN, &usage) == 0 ? usage.ru_maxrss : 0;
	return true;
}

/* The last line of the log, but for ninja saying that a command failed; ends the line in
 * place. */
static const char *last_words(char *log)
{
	const char *found = "it said nothing";
	char *rest = NULL;
	for (char *line = strtok_r(log, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
		if (strncmp(line, "ninja: build stopped", 20) != 0)
			found = line;
	return found;
}

static bool print_reason(const struct stage *s, text *out, error *err)
{
	char *log;
	size_t size;
	if (s->code == 0)
		return true;
	if (!read_file(s->log, MAX_LOG, &log, &size, err))
		return false;
	const char *words = last_words(log);
	text_puts(out, ",\"reason\":");
	bool ok = json_quote(out, words, strlen(words)) ||
	          fail(err, EXIT_BAD_INPUT, "%s: expected UTF-8", s->log);
	free(log);
	return ok;
}

/* Whether a line of the log is this process' timings. */
static bool is_timings(const char *line, size_t length, pid_t process, json_doc *doc)
{
	error ignored;
	if (!memmem(line, length, "\"rest_samples\"", 14) ||
	    !json_parse(doc, "timings", line, length, &ignored))
		return false;
	const cJSON *found = cJSON_GetObjectItemCaseSensitive(doc->root, "process");
	if (cJSON_IsNumber(found) && found->valuedouble == (double)process)
		return true;
	json_free(doc);
	return false;
}

static void print_timings(const struct stage *s, text *out, const char *log, size_t size)
{
	for (const char *at = log, *end = log + size; at < end;) {
		const char *stop = memchr(at, '\n', (size_t)(end - at));
		size_t length = (size_t)((stop ? stop : end) - at);
		json_doc doc;
		if (is_timings(at, length, s->process, &doc)) {
			json_free(&doc);
			text_puts(out, ",\"timings\":");
			text_add(out, at, length);
			return;
		}
		at += length + 1;
	}
}

static bool find_timings(const struct stage *s, text *out, error *err)
{
	char path[PATH_BYTES], *log;
	size_t size;
	if (!join_path(path, sizeof path, s->tree, "log/edges.jsonl", err))
		return false;
	if (!file_exists(path))
		return true;
	if (!read_file(path, MAX_LOG, &log, &size, err))
		return false;
	print_timings(s, out, log, size);
	free(log);
	return true;
}

static bool note(const struct stage *s, error *err)
{
	text out = { 0 };
	text_printf(&out, "{\"stage\":\"%s\",\"code\":%d,\"seconds\":%.6f,\"host_bytes\":%ld",
	            s->name, s->code, s->seconds, s->peak_kib * 1024);
	bool ok = print_reason(s, &out, err) && find_timings(s, &out, err);
	text_puts(&out, "}\n");
	ok = ok && text_ok(&out, err);
	FILE *f = ok ? fopen(s->results, "ab") : NULL;
	if (ok && (!f || fwrite(out.data, 1, out.length, f) != out.length))
		ok = fail_errno(err, errno, "%s: cannot write", s->results);
	if (f && fclose(f) != 0 && ok)
		ok = fail_errno(err, errno, "%s: cannot write", s->results);
	text_free(&out);
	return ok;
}

int main(int argc, char **argv)
{
	error err;
	if (argc < 5) {
		fprintf(stderr, "usage: stage RESULTS NAME TREE COMMAND [ARGUMENT]...\n");
		return EXIT_USAGE;
	}
	struct stage s = { .results = argv[1], .name = argv[2], .tree = argv[3],
		.command = argv + 4 };
	int length = snprintf(s.log, sizeof s.log, "%s.log", s.results);
	bool ok = (length > 0 && (size_t)length < sizeof s.log) ||
	          fail(&err, EXIT_USAGE, "%s: the path is too long", s.results);
	ok = ok && run_command(&s, &err) && note(&s, &err);
	return ok ? EXIT_OK : error_report("stage", &err);
}
