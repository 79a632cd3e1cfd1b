// SPDX-License-Identifier: GPL-2.0
/*
 * Timeline, verdicts and guest time.
 *
 * All lines go through /dev/kmsg: a record of the kernel's own log reaches the
 * console in one piece and in the right order among the kernel's messages.
 * Guest time runs on through a kexec: the agent hands the time and the TSC of its
 * last line before the jump to the next kernel.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include "agent.h"

static int kernel;	/* number of this kernel in the chain, from 1 */
static char when[64];
static int64_t clock_offset_us;

static uint64_t uptime_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return ts.tv_sec * 1000000ULL + ts.tv_nsec / 1000;
}

static uint64_t guest_us(void)
{
	return uptime_us() + clock_offset_us;
}

/* Measured: nothing tells the TSC's exact frequency to user space. */
static double tsc_per_us(void)
{
	uint64_t us = uptime_us(), tsc = __rdtsc();

	sleep_ms(10);
	return (double)(__rdtsc() - tsc) / (uptime_us() - us);
}

void report_init(void)
{
	unsigned long long then_us, then_tsc;
	uint64_t tsc, us;

	kernel = param_nr("kernel", 1);

	if (sscanf(param("clock", ""), "%llu:%llu", &then_us, &then_tsc) != 2)
		return;
	us = uptime_us();
	tsc = __rdtsc();
	if (tsc > then_tsc)
		then_us += (tsc - then_tsc) / tsc_per_us();
	clock_offset_us = (int64_t)then_us - (int64_t)us;
}

void report_handover(char *buf, size_t len)
{
	snprintf(buf, len, "ilu.kernel=%d ilu.clock=%llu:%llu",
		 kernel + 1, (unsigned long long)guest_us(),
		 (unsigned long long)__rdtsc());
}

static void line(const char *text)
{
	char rec[900];
	int kmsg, len;

	len = snprintf(rec, sizeof(rec), "<5>%s\n", text);
	if (len >= (int)sizeof(rec))
		len = sizeof(rec) - 1;
	/* Opened for each line: the kernel drops what comes fast through one file. */
	kmsg = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	if (kmsg < 0 || write(kmsg, rec, len) != len)
		dprintf(1, "%s", rec + 3);
	if (kmsg >= 0)
		close(kmsg);
}

void say(const char *who, const char *fmt, ...)
{
	uint64_t us = guest_us();
	char text[700], out[800];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	snprintf(out, sizeof(out), "ILU: [%3llu.%03llu] kernel=%d %s: %s",
		 (unsigned long long)(us / 1000000),
		 (unsigned long long)(us / 1000 % 1000), kernel, who, text);
	line(out);
}

static bool judge(bool kept, const char *promise, const char *reason)
{
	const char *open = when[0] ? " (" : "", *close = when[0] ? ")" : "";
	char text[800];

	if (kept) {
		snprintf(text, sizeof(text), "ILU-RESULT: ok %s%s%s%s", promise, open,
			 when, close);
	} else {
		snprintf(text, sizeof(text), "ILU-RESULT: not ok %s%s%s%s: %s",
			 promise, open, when, close, reason);
	}
	line(text);
	return kept;
}

bool verdict(bool kept, const char *promise, const char *fmt, ...)
{
	char reason[500];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(reason, sizeof(reason), fmt, ap);
	va_end(ap);
	return judge(kept, promise, reason);
}

bool works(int ret, const char *promise)
{
	return judge(!ret, promise, strerror(-ret));
}

bool refused(int ret, int err, const char *what)
{
	char promise[300], reason[200];

	if (ret < 0)
		say("refused", "%s: %s", what, strerror(-ret));
	snprintf(promise, sizeof(promise), "%s is refused", what);
	snprintf(reason, sizeof(reason), "%s, expected: %s",
		 ret < 0 ? strerror(-ret) : "not refused", strerror(err));
	return judge(ret == -err, promise, reason);
}

void context(const char *text)
{
	snprintf(when, sizeof(when), "%s", text ? text : "");
}

void skip(const char *reason)
{
	say("skipped", "%s", reason);
}

void give_up(const char *fmt, ...)
{
	char reason[500];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(reason, sizeof(reason), fmt, ap);
	va_end(ap);
	context(NULL);
	verdict(false, "the scenario can be carried out", "%s", reason);
	power_off();
}
