/* points OPTIONS: one tool, every fault of some kinds, one after the other.
 *
 *   points TOOL INJECTOR OUT WHOLE POINTS RECOVERY COMMAND KIND...   < INPUT
 *
 * Runs in a tree in the state in which ninja would start the tool. For each KIND and
 * every k (or POINTS of them, spread evenly) the COMMAND runs with that fault
 * (inject.c), and then:
 *
 *   - it must have ended by the exit code that it has without a fault, or by 3 with one
 *     line on standard error (2 if what it could not read may as well be damaged); or by
 *     SIGKILL where that is the fault;
 *   - if it is the code without a fault, the tree must be as without the fault,
 *     temporaries aside;
 *   - RECOVERY, a shell command, must end with the published and working files of the
 *     undisturbed tree in WHOLE, and run again it must have nothing to do. Where it is
 *     empty, the tool only looks: there is nothing to recover, and what it prints must be
 *     what it prints without the fault.
 *
 * The last is what takes long, and thousands of faults leave the same few states: a
 * state that recovered once (names, modes and bytes of everything in the tree,
 * temporaries included) is not tried again. Then the tree is put back. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/faults/snapshot.h"

enum { MOST_ARGUMENTS = 256, SECONDS = 120, SHOWN = 5, MOST_STATES = 1 << 20 };

struct counts {
	long calls, requests, reads; /* as inject.c counts them */
};

static const char *tool, *injector, *out, *recovery;
static char *arguments[MOST_ARGUMENTS];
static struct snapshot before, whole;
static struct sum undisturbed;
static int undisturbed_code;
static bool only_looks;
static struct sum *recovered; /* states that did */
static size_t recovered_count;
static long tried, wrong, states;

/* ---- running ---- */

/* The command's words, as the shell sees them. */
static void split_command(const char *command)
{
	static char words[1 << 16];
	char line[1 << 16];
	snprintf(line, sizeof line, "printf '%%s\\0' %s", command);
	FILE *pipe = popen(line, "r");
	size_t size = pipe ? fread(words, 1, sizeof words - 1, pipe) : 0;
	if (!size || pclose(pipe) != 0)
		give_up(command);
	int count = 0;
	for (size_t at = 0; at < size && count < MOST_ARGUMENTS - 1; at += strlen(words + at) + 1)
		arguments[count++] = words + at;
}

static void redirect(const char *path, int to)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
	if (fd < 0 || dup2(fd, to) < 0)
		_exit(126);
	close(fd);
}

/* A wait status. */
static int run_tool(const char *fault)
{
	int status;
	pid_t child = fork();
	if (child == 0) {
		lseek(0, 0, SEEK_SET);
		redirect("fault.out", 1);
		redirect("fault.err", 2);
		setenv("QUERN_FAULT", fault, 1);
		setenv("LD_PRELOAD", injector, 1);
		alarm(SECONDS);
		execv(arguments[0], arguments);
		_exit(127);
	}
	if (child < 0 || waitpid(child, &status, 0) != child)
		give_up("fork");
	return status;
}

static int count_lines(const char *path)
{
	FILE *file = fopen(path, "r");
	int lines = 0;
	for (int c; file && (c = getc(file)) != EOF;)
		lines += c == '\n';
	if (file)
		fclose(file);
	return lines;
}

static void show_file(const char *path)
{
	char line[512];
	FILE *file = fopen(path, "r");
	for (int i = 0; i < 20 && file && fgets(line, sizeof line, file); i++)
		printf("    %s", line);
	if (file)
		fclose(file);
}

/* ---- judging ---- */

/* What is wrong with how the tool ended, or NULL. */
static const char *judge_end(int status, const char *kind)
{
	if (WIFSIGNALED(status))
		return strcmp(kind, "kill") == 0 && WTERMSIG(status) == SIGKILL
		       ? NULL : "ended by a signal";
	int code = WEXITSTATUS(status);
	if (code == undisturbed_code)
		return NULL;
	if (code != 3 && (code != 2 || strcmp(kind, "unreadable") != 0))
		return "ended by another exit code than its own or 3";
	return count_lines("fault.err") == 1 ? NULL : "did not say why in one line";
}

/* What is wrong with what a tool did that ended as if there had been no fault, or NULL. */
static const char *judge_success(void)
{
	struct sum essence = snapshot_essence(&before);
	if (!same_sum(&essence, &undisturbed))
		return "said that it succeeded, and left something else";
	if (only_looks && system("cmp -s fault.out undisturbed.out") != 0)
		return "printed something else";
	return NULL;
}

static bool is_known(const struct sum *state)
{
	for (size_t i = recovered_count; i-- > 0;)
		if (same_sum(state, &recovered[i]))
			return true;
	return false;
}

static bool has_nothing_to_do(void)
{
	char line[512], last[512] = "";
	FILE *file = fopen("after.txt", "r");
	while (file && fgets(line, sizeof line, file))
		snprintf(last, sizeof last, "%s", line);
	if (file)
		fclose(file);
	return strcmp(last, "ninja: no work to do.\n") == 0;
}

/* What is wrong with the tree after it was built again, or NULL. */
static const char *judge_recovery(void)
{
	char command[1 << 12];
	snprintf(command, sizeof command, "{ %s; } >after.txt 2>&1", recovery);
	if (system(command) != 0)
		return "the next build failed";
	snapshot_look(&before, out);
	const char *difference = snapshot_difference(&before, &whole);
	if (difference)
		return difference;
	if (system(command) != 0 || !has_nothing_to_do())
		return "the build after the next had something to do";
	snapshot_look(&before, out);
	return NULL;
}

/* ---- trying ---- */

static void try(const char *kind, long k)
{
	char fault[64];
	snprintf(fault, sizeof fault, "%s:%ld", kind, k);
	int status = run_tool(fault);
	struct sum state = snapshot_look(&before, out);
	const char *reason = judge_end(status, kind);
	if (!reason && WIFEXITED(status) && WEXITSTATUS(status) == undisturbed_code)
		reason = judge_success();
	if (!reason && !only_looks && !is_known(&state)) {
		reason = judge_recovery();
		states++;
		if (!reason && recovered_count < MOST_STATES)
			recovered[recovered_count++] = state;
	}
	tried++;
	if (reason) {
		wrong++;
		printf("WRONG %s %s: %s (status %x)\n", tool, fault, reason, (unsigned)status);
		if (wrong <= SHOWN) {
			show_file("fault.err");
			show_file("after.txt");
		}
	}
	snapshot_restore(&before);
}

static struct counts count_points(void)
{
	struct counts n;
	int status = run_tool("count:count.txt");
	undisturbed_code = WEXITSTATUS(status);
	if (!WIFEXITED(status) || (undisturbed_code != 0 && !only_looks))
		give_up("the tool fails without a fault");
	snapshot_look(&before, out);
	undisturbed = snapshot_essence(&before);
	snapshot_restore(&before);
	FILE *file = fopen("count.txt", "r");
	if (!file || fscanf(file, "%ld %ld %ld", &n.calls, &n.requests, &n.reads) != 3 ||
	    rename("fault.out", "undisturbed.out") != 0)
		give_up("count.txt");
	fclose(file);
	return n;
}

static void try_kind(const char *kind, long points, const struct counts *n)
{
	long most = strcmp(kind, "malloc") == 0 ? n->requests :
	            strcmp(kind, "unreadable") == 0 ? n->reads : n->calls;
	long step = points && most > points ? most / points : 1;
	tried = wrong = states = 0;
	for (long k = 1; k <= most; k += step)
		try(kind, k);
	printf("%s %s: %ld of %ld tried, %ld new states, %ld wrong\n", tool, kind, tried, most,
	       states, wrong);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	char here[4096];
	long all = 0;
	if (argc < 9 || !getcwd(here, sizeof here))
		return 1;
	tool = argv[1];
	injector = argv[2];
	out = argv[3];
	recovery = argv[6];
	only_looks = !recovery[0];
	split_command(argv[7]);
	recovered = malloc(MOST_STATES * sizeof *recovered);
	if (!recovered || chdir(argv[4]) != 0)
		give_up(argv[4]);
	snapshot_take(&whole, out, NULL);
	if (chdir(here) != 0)
		give_up(here);
	snapshot_take(&before, out, "backup");
	const struct counts counts = count_points();
	for (int i = 8; i < argc; i++) {
		try_kind(argv[i], atol(argv[5]), &counts);
		all += wrong;
	}
	return all != 0;
}
