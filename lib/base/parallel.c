/* Threads that take the next index from one counter; see parallel.h. */
#include "lib/base/parallel.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

struct crew {
	void *self;
	parallel_work *work;
	int count, next; /* next and what follows are guarded by lock */
	pthread_mutex_t lock;
	bool failed;
	int bad; /* the lowest index that failed */
	error err;
};

struct hand {
	struct crew *crew;
	int thread;
	pthread_t id;
};

static void *take_turns(void *argument)
{
	struct hand *hand = argument;
	struct crew *c = hand->crew;
	pthread_mutex_lock(&c->lock);
	while (!c->failed && c->next < c->count) {
		error err;
		int index = c->next++;
		pthread_mutex_unlock(&c->lock);
		bool ok = c->work(c->self, hand->thread, index, &err);
		pthread_mutex_lock(&c->lock);
		/* Lower indices are begun already, so the lowest that fails is always told. */
		if (!ok && (!c->failed || index < c->bad)) {
			c->failed = true;
			c->bad = index;
			c->err = err;
		}
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

bool parallel_run(int threads, int count, void *self, parallel_work *work, error *err)
{
	struct crew crew = { .self = self, .work = work, .count = count,
		.lock = PTHREAD_MUTEX_INITIALIZER };
	struct hand *hands = calloc((size_t)threads, sizeof *hands);
	int started = 1;
	if (!hands)
		return fail_memory(err, "threads", (unsigned long long)threads * sizeof *hands);
	for (int i = 0; i < threads; i++)
		hands[i] = (struct hand){ .crew = &crew, .thread = i };
	while (started < threads && pthread_create(&hands[started].id, NULL, take_turns,
	                                           &hands[started]) == 0)
		started++; /* fewer threads do as well */
	take_turns(&hands[0]);
	for (int i = 1; i < started; i++)
		pthread_join(hands[i].id, NULL);
	pthread_mutex_destroy(&crew.lock);
	free(hands);
	if (crew.failed)
		*err = crew.err;
	return !crew.failed;
}

int count_cores(int most)
{
	cpu_set_t allowed;
	long cores = sched_getaffinity(0, sizeof allowed, &allowed) == 0
	                     ? CPU_COUNT(&allowed)
	                     : sysconf(_SC_NPROCESSORS_ONLN); /* more than a set holds */
	return cores < 1 ? 1 : cores > most ? most : (int)cores;
}
