/* Loaded into every program of a run: the wall clock is set an hour ahead once a program has looked at it a few times. */
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static time_t look(struct timespec *now)
{
	static int looks;

	syscall(SYS_clock_gettime, CLOCK_REALTIME, now);
	if (++looks > 10)
		now->tv_sec += 3600;
	return now->tv_sec;
}

time_t time(time_t *seconds)
{
	struct timespec now;

	look(&now);
	if (seconds)
		*seconds = now.tv_sec;
	return now.tv_sec;
}

int gettimeofday(struct timeval *restrict value, void *restrict zone)
{
	struct timespec now;

	(void)zone;
	look(&now);
	value->tv_sec = now.tv_sec;
	value->tv_usec = now.tv_nsec / 1000;
	return 0;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
	if (clock != CLOCK_REALTIME)
		return (int)syscall(SYS_clock_gettime, clock, now);
	look(now);
	return 0;
}
