/* Child processes for tests of what several processes do to the same files. */
#ifndef QUERN_TESTS_SUPPORT_PROCESSES_H
#define QUERN_TESTS_SUPPORT_PROCESSES_H

#include <sys/types.h>

/* Forks; the child runs work(argument) and exits with its answer, without
 * anything that the parent has at exit. No CMocka assertion may run in it. */
pid_t start_process(int (*work)(void *), void *argument);

/* Waits: the exit status, or minus the signal that ended it. */
int wait_process(pid_t child);

/* Both, one after the other. */
int run_process(int (*work)(void *), void *argument);

void sleep_milliseconds(int milliseconds);

/* How many entries a folder has, hidden ones too; -1 if it cannot be read. */
int count_entries(const char *folder);

#endif
