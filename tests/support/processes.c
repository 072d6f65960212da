/* See processes.h. */
#include "tests/support/processes.h"

#include <dirent.h>
#include <errno.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

pid_t start_process(int (*work)(void *), void *argument)
{
	pid_t child = fork();
	if (child == 0)
		_exit(work(argument));
	return child;
}

int wait_process(pid_t child)
{
	int status;
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

int run_process(int (*work)(void *), void *argument)
{
	return wait_process(start_process(work, argument));
}

void sleep_milliseconds(int milliseconds)
{
	struct timespec t = { milliseconds / 1000, milliseconds % 1000 * 1000000L };
	nanosleep(&t, NULL);
}

int count_entries(const char *folder)
{
	DIR *list = opendir(folder);
	int count = -2; /* . and .. */
	if (!list)
		return -1;
	while (readdir(list))
		count++;
	closedir(list);
	return count;
}
