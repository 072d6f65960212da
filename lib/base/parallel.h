/* The same work for every index, on several threads. */
#ifndef QUERN_BASE_PARALLEL_H
#define QUERN_BASE_PARALLEL_H

#include "lib/base/error.h"

/* Work on one index, by thread `thread` of those that were asked for: what belongs to
 * a thread is the caller's, one apiece. */
typedef bool parallel_work(void *self, int thread, int index, error *err);

/* Calls work for indices 0 to count-1, each once, in no order. After a failure no
 * index is begun; the error of the lowest one that failed is returned. */
bool parallel_run(int threads, int count, void *self, parallel_work *work, error *err);

/* The cores this process may use, `most` of them at most: taskset and cluster schedulers
 * allow it some. */
int count_cores(int most);

#endif
