/* make_model FOLDER: a model so small that a tool runs over it in milliseconds, for loops
 * that run every tool thousands of times: all kinds of groups, two shards. */
#include <stdio.h>
#include <sys/stat.h>

#include "tests/support/random_model.h"

int main(int argc, char **argv)
{
	struct random_model m = random_model_tiny();
	error err;
	m.shards = 2;
	if (argc != 2 || mkdir(argv[1], 0777) != 0)
		return 1;
	return random_model_write(&m, argv[1], &err) ? 0 : error_report("make_model", &err);
}
