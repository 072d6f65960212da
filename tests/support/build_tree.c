/* See build_tree.h. */
#include "tests/support/build_tree.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/text.h"

#include <cmocka.h>

/* The tree under test, relative to the repository's root where it lies below that. */
static const char *tree_name(void)
{
	static const char fallback[] = "out";
	const char *name = getenv("QUERN_TREE");
	char root[PATH_BYTES];
	if (!name || !*name)
		return fallback;
	assert_non_null(getcwd(root, sizeof root));
	size_t length = strlen(root);
	return strncmp(name, root, length) == 0 && name[length] == '/' ? name + length + 1
	                                                               : name;
}

/* Runs a command for the shell; its exit status, and in *output what it printed. */
static int run_shell(const char *command, text *output)
{
	char piece[4096];
	size_t count;
	FILE *stream = popen(command, "r");
	assert_non_null(stream);
	while ((count = fread(piece, 1, sizeof piece, stream)) > 0)
		text_add(output, piece, count);
	int status = pclose(stream);
	assert_false(output->failed);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void build_tree(const char *folder, const char *arguments, const char *targets)
{
	text command = { 0 }, output = { 0 };
	text_printf(&command,
	            "exec 2>&1; . tests/support/scenario.sh; set -e; make_tree '%s/tree' %s; "
	            "cd '%s/tree'; ", folder, arguments, folder);
	if (targets)
		text_printf(&command, "build %s", targets);
	assert_false(command.failed);
	int status = run_shell(command.data, &output);
	if (status != 0)
		fail_msg("%s: exit %d\n%s", command.data, status, output.data ? output.data : "");
	text_free(&command);
	text_free(&output);
}

void built_path(char path[PATH_BYTES], const char *folder, const char *name)
{
	int length = snprintf(path, PATH_BYTES, "%s/tree/%s/%s", folder, tree_name(), name);
	assert_in_range(length, 1, PATH_BYTES - 1);
}

int run_tool(const char *command, char *said, size_t size)
{
	text line = { 0 }, output = { 0 };
	text_printf(&line, "%s/bin/%s 2>&1 >/dev/null", tree_name(), command);
	assert_false(line.failed);
	int status = run_shell(line.data, &output);
	snprintf(said, size, "%s", output.data ? output.data : "");
	text_free(&line);
	text_free(&output);
	return status;
}
