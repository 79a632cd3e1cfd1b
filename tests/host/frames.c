// SPDX-License-Identifier: GPL-2.0
/*
 * Frames with numbers for a NIC in QEMU, and a picture of which of them arrived.
 *
 * frames send: QEMU's -netdev dgram on a unix socket drops nothing. While the NIC
 * cannot receive, QEMU stops reading, the socket's queue fills (ten datagrams) and
 * sending is refused. A number is used up only once QEMU's socket has it. So a NIC
 * that stands still loses no frame, it holds up the sender: look at the longest
 * pause as well, or send with --patience, as a wire does.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "../guest/e1000e.h"

#define NSEC		1000000000LL
#define MSEC		1000000LL
#define FLUSH_NS	(50 * MSEC)
#define GONE_NS		(2 * NSEC)	/* a socket that nobody reads for so long */
#define BEHIND_NS	(50 * MSEC)
#define FLOWING		100	/* frames taken at once, in a row */

static void __attribute__((noreturn, format(printf, 1, 2))) die(const char *fmt, ...)
{
	va_list ap;

	fputs("frames: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(2);
}

static int64_t now_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec * NSEC + ts.tv_nsec;
}

static FILE *must_open(const char *path, const char *mode)
{
	FILE *f;

	if (!path)
		die("a file name is missing (try --help)");
	f = fopen(path, mode);
	if (!f)
		die("%s: %s", path, strerror(errno));
	return f;
}

/* ---- send ------------------------------------------------------------------- */

static volatile sig_atomic_t stop;

static void on_signal(int sig)
{
	(void)sig;
	stop = 1;
}

static struct sockaddr_un address(const char *path)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };

	if (!path || strlen(path) >= sizeof(sun.sun_path))
		die("the path of a socket is missing or too long");
	strcpy(sun.sun_path, path);
	return sun;
}

static void sleep_until(int64_t when)
{
	struct timespec ts = { when / NSEC, when % NSEC };

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}

/* All sizes come up, and neighbours differ. */
static size_t size_of(uint64_t seq, size_t min, size_t max)
{
	return min + seq * 131 % (max - min + 1);
}

struct sender {
	int fd;
	struct sockaddr_un peer;
	pid_t owner;
	bool until_gone;
	int64_t lost_since;	/* no socket since then, or 0 */
	bool met;
	unsigned long long sent, retried, given_up;
	unsigned int in_a_row;	/* taken at once */
	bool flowing;
	int64_t patience;	/* ns, or 0: no end */
	bool out_of_patience;
	FILE *log;
	int64_t flushed;
};

static void flush_log(struct sender *s)
{
	int64_t now = now_ns(CLOCK_MONOTONIC);

	if (now - s->flushed < FLUSH_NS)
		return;
	fflush(s->log);
	s->flushed = now;
}

/* Is there still a point in sending? */
static bool go_on(struct sender *s)
{
	if (stop || (s->owner && kill(s->owner, 0) && errno == ESRCH))
		return false;
	return !(s->until_gone && s->met && s->lost_since &&
		 now_ns(CLOCK_MONOTONIC) - s->lost_since > GONE_NS);
}

/* True once QEMU's socket has the frame. */
static bool try_to_send(struct sender *s, const void *buf, size_t len, int flags)
{
	ssize_t n = sendto(s->fd, buf, len, flags, (struct sockaddr *)&s->peer,
			   sizeof(s->peer));

	if (n == (ssize_t)len) {
		s->met = true;
		s->lost_since = 0;
		return true;
	}
	switch (errno) {
	case EAGAIN:
	case ENOBUFS:
	case ENOMEM:
		s->met = true;
		s->lost_since = 0;
		break;
	case ECONNREFUSED:
	case ENOENT:
	case ECONNRESET:
		if (!s->lost_since)
			s->lost_since = now_ns(CLOCK_MONOTONIC);
		break;
	case EINTR:
		break;
	default:
		die("sending: %s", strerror(errno));
	}
	return false;
}

/*
 * False if it's time to end. @flip turns over bits of a byte of the pattern. Waiting
 * for the guest to start its NIC needs no patience: that begins when frames flow.
 */
static bool send_frame(struct sender *s, uint64_t seq, size_t len, uint8_t flip)
{
	static uint8_t buf[FRAME_MAX];
	int64_t start = now_ns(CLOCK_MONOTONIC);
	int flags = MSG_DONTWAIT;

	for (;;) {
		frame_make(buf, len, seq, now_ns(CLOCK_REALTIME));
		buf[len / 2 + 10] ^= flip;
		if (try_to_send(s, buf, len, flags))
			break;
		s->retried += flags != 0;
		s->in_a_row = 0;
		if (s->patience && s->flowing && !s->lost_since &&
		    (s->out_of_patience ||
		     now_ns(CLOCK_MONOTONIC) - start > s->patience)) {
			s->out_of_patience = true;
			s->given_up++;
			return go_on(s);
		}
		if (!go_on(s))
			return false;
		flush_log(s);
		if (s->lost_since || !s->met)
			sleep_until(now_ns(CLOCK_MONOTONIC) + 20 * MSEC);
		/* Waits in the kernel for room, as long as SO_SNDTIMEO says. */
		flags = 0;
	}
	if (++s->in_a_row >= FLOWING)
		s->flowing = true;
	s->out_of_patience = false;
	return true;
}

struct send_options {
	const char *socket, *bind, *log;
	double rate;
	size_t min, max;
	unsigned long long drop, corrupt, repeat;
};

static void send_all(struct sender *s, const struct send_options *o)
{
	int64_t next = now_ns(CLOCK_MONOTONIC), now;
	uint8_t ignored[2048];
	uint64_t seq;
	size_t len;

	for (seq = 1; go_on(s); seq++) {
		sleep_until(next);
		len = size_of(seq, o->min, o->max);
		if (seq != o->drop &&
		    !send_frame(s, seq, len, seq == o->corrupt ? 0x10 : 0))
			break;
		if (seq == o->repeat && !send_frame(s, seq, len, 0))
			break;
		s->sent++;
		fprintf(s->log, "%llu %lld\n", (unsigned long long)seq,
			(long long)now_ns(CLOCK_REALTIME));
		/* What the guest sends must not fill our own queue. */
		while (recv(s->fd, ignored, sizeof(ignored), MSG_DONTWAIT) > 0)
			;
		now = now_ns(CLOCK_MONOTONIC);
		next += NSEC / o->rate;
		/* A wire has no memory: what could not be sent in time isn't made up for. */
		if (now - next > BEHIND_NS)
			next = now;
		if (next - now > FLUSH_NS)
			s->flushed = 0;
		flush_log(s);
	}
}

static void send_usage(void)
{
	puts("Usage: frames send --socket PEER --bind OWN --log FILE [OPTIONS]\n"
	     "\n"
	     "  --socket PEER     local.path of QEMU's -netdev dgram\n"
	     "  --bind OWN        its remote.path\n"
	     "  --log FILE        gets a line \"SEQ TIME_NS\" for each frame\n"
	     "  --rate N          frames a second (default: 200)\n"
	     "  --size-min N      of a frame (default: 64)\n"
	     "  --size-max N      (default: 1500)\n"
	     "  --patience MS     frames that the NIC doesn't take in time are lost, once they\n"
	     "                    flow; without, the sender waits\n"
	     "  --until-gone      ends when QEMU's socket was there and is gone for 2 s\n"
	     "  --owner PID       ends when that process is gone\n"
	     "  --drop SEQ        does not send that frame, but says it did\n"
	     "  --corrupt SEQ     turns a bit of it over\n"
	     "  --repeat SEQ      sends it twice");
}

static int cmd_send(int argc, char **argv)
{
	static const struct option longopts[] = {
		{ "socket", required_argument, NULL, 's' },
		{ "bind", required_argument, NULL, 'b' },
		{ "rate", required_argument, NULL, 'r' },
		{ "log", required_argument, NULL, 'l' },
		{ "size-min", required_argument, NULL, 'm' },
		{ "size-max", required_argument, NULL, 'M' },
		{ "patience", required_argument, NULL, 'p' },
		{ "until-gone", no_argument, NULL, 'g' },
		{ "owner", required_argument, NULL, 'o' },
		{ "drop", required_argument, NULL, 'D' },
		{ "corrupt", required_argument, NULL, 'C' },
		{ "repeat", required_argument, NULL, 'R' },
		{ "help", no_argument, NULL, 'h' },
		{}
	};
	struct send_options o = { .rate = 200, .min = FRAME_MIN, .max = 1500 };
	struct timeval patience = { .tv_usec = 50000 };
	struct sigaction sa = { .sa_handler = on_signal };
	struct sockaddr_un own;
	struct sender s = {};
	int opt;

	while ((opt = getopt_long(argc, argv, "", longopts, NULL)) != -1) {
		switch (opt) {
		case 's':
			o.socket = optarg;
			break;
		case 'b':
			o.bind = optarg;
			break;
		case 'r':
			o.rate = atof(optarg);
			break;
		case 'l':
			o.log = optarg;
			break;
		case 'm':
			o.min = atoi(optarg);
			break;
		case 'M':
			o.max = atoi(optarg);
			break;
		case 'p':
			s.patience = atoll(optarg) * MSEC;
			break;
		case 'g':
			s.until_gone = true;
			break;
		case 'o':
			s.owner = atoi(optarg);
			break;
		case 'D':
			o.drop = strtoull(optarg, NULL, 0);
			break;
		case 'C':
			o.corrupt = strtoull(optarg, NULL, 0);
			break;
		case 'R':
			o.repeat = strtoull(optarg, NULL, 0);
			break;
		case 'h':
			send_usage();
			return 0;
		default:
			return 2;
		}
	}
	if (optind < argc)
		die("unknown argument %s (try --help)", argv[optind]);
	if (o.min < FRAME_MIN || o.max > FRAME_MAX || o.min > o.max)
		die("frames have %d to %d bytes", FRAME_MIN, FRAME_MAX);
	if (!(o.rate > 0 && o.rate <= 100000))
		die("what rate is that?");

	/* Without SA_RESTART: a signal ends what waits. */
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	s.peer = address(o.socket);
	own = address(o.bind);
	s.log = must_open(o.log, "w");
	s.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (unlink(o.bind) && errno != ENOENT)
		die("%s: %s", o.bind, strerror(errno));
	if (s.fd < 0 || bind(s.fd, (struct sockaddr *)&own, sizeof(own)) ||
	    setsockopt(s.fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)))
		die("%s: %s", o.bind, strerror(errno));

	send_all(&s, &o);
	if (fclose(s.log))
		die("%s: %s", o.log, strerror(errno));
	unlink(o.bind);
	printf("sent %llu frames, retried %llu\n", s.sent, s.retried);
	if (s.patience)
		printf("frames that the NIC did not take in time: %llu\n", s.given_up);
	return 0;
}

/* ---- what was sent and what was received -------------------------------------- */

enum { SENT = 1, GOT = 2, BAD = 4 };

struct event {
	int64_t ns;
	char label[80];
};

static int64_t *sent_ns;	/* by number, 0: not sent */
static uint8_t *what;
static uint64_t top, room;	/* highest number known, and room for */
static struct event *events;
static unsigned int nr_events;
static uint64_t marker, last_sent, last_received, nr_dup;
static int64_t end_ns;		/* nobody looked for frames after that, or 0 */

/* Makes @seq known; false for a number that can't be one. */
static bool know(uint64_t seq)
{
	uint64_t more;

	if (!seq || seq > 100000000)
		return false;
	if (seq >= room) {
		more = seq + seq / 2 + 1024;
		sent_ns = realloc(sent_ns, more * sizeof(*sent_ns));
		what = realloc(what, more);
		if (!sent_ns || !what)
			die("no memory");
		memset(sent_ns + room, 0, (more - room) * sizeof(*sent_ns));
		memset(what + room, 0, more - room);
		room = more;
	}
	if (seq > top)
		top = seq;
	return true;
}

static void read_sent(const char *path)
{
	FILE *f = must_open(path, "r");
	unsigned long long seq;
	char line[128];
	long long ns;

	while (fgets(line, sizeof(line), f)) {
		/* A sender that was killed leaves half a line. */
		if (!strchr(line, '\n') || sscanf(line, "%llu %lld", &seq, &ns) != 2 ||
		    !know(seq))
			continue;
		sent_ns[seq] = ns;
		what[seq] |= SENT;
		if (seq > last_sent)
			last_sent = seq;
	}
	fclose(f);
}

static void read_received(const char *path)
{
	FILE *f = must_open(path, "r");
	unsigned long long a, b, nr_unknown = 0;
	char line[128];

	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "dup %llu", &a) == 1) {
			nr_dup++;
		} else if (sscanf(line, "bad %llu", &a) == 1) {
			if (know(a))
				what[a] |= BAD;
			else
				nr_unknown++;
		} else if (sscanf(line, "%llu-%llu", &a, &b) == 2 && a <= b && know(a) &&
			   know(b)) {
			if (b > last_received)
				last_received = b;
			for (; a <= b; a++)
				what[a] |= GOT;
		}
	}
	fclose(f);
	/* Nobody knows which number that was: the last one received gets the blame. */
	if (nr_unknown && last_received)
		what[last_received] |= BAD;
}

static int by_time(const void *a, const void *b)
{
	const struct event *x = a, *y = b;

	return (x->ns > y->ns) - (x->ns < y->ns);
}

static void read_events(const char *path)
{
	FILE *f = must_open(path, "r");
	unsigned long long seq;
	char line[256], *text;
	long long ns;
	int off;

	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\r\n")] = '\0';
		if (sscanf(line, "%lld %n", &ns, &off) != 1)
			continue;
		text = line + off;
		if (sscanf(text, "marker %llu", &seq) == 1) {
			if (marker)
				continue;
			marker = seq;
			text = "marker";
		}
		if (!strcmp(text, "end"))
			end_ns = ns;
		events = realloc(events, (nr_events + 1) * sizeof(*events));
		if (!events)
			die("no memory");
		events[nr_events].ns = ns;
		snprintf(events[nr_events++].label, sizeof(events->label), "%s", text);
	}
	fclose(f);
	if (nr_events)
		qsort(events, nr_events, sizeof(*events), by_time);
}

#define TAIL_NS		(200 * MSEC)

/* ---- plot ---------------------------------------------------------------------- */

#define WIDTH	1000
#define HEIGHT	560
#define LEFT	80
#define RIGHT	980
#define TOP	74
#define BOTTOM	500

static FILE *svg;
static int64_t x0, x1;		/* what is shown, ns */
static int64_t zero;		/* where the axis begins to count */
static double y1;		/* from 0 */

static double px(int64_t ns)
{
	return LEFT + (double)(ns - x0) * (RIGHT - LEFT) / (x1 - x0);
}

static double py(double seq)
{
	return BOTTOM - (seq - (marker - 1)) * (BOTTOM - TOP) / y1;
}

static void put_escaped(const char *text)
{
	for (; *text; text++) {
		switch (*text) {
		case '<':
			fputs("&lt;", svg);
			break;
		case '>':
			fputs("&gt;", svg);
			break;
		case '&':
			fputs("&amp;", svg);
			break;
		default:
			fputc(*text, svg);
		}
	}
}

static void __attribute__((format(printf, 5, 6)))
text_at(double x, double y, const char *anchor, const char *more, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fprintf(svg, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" %s>", x, y, anchor, more);
	put_escaped(text);
	fputs("</text>\n", svg);
}

/* 1, 2 or 5 times a power of ten, at most @max of them in @span. */
static double tick_of(double span, int max)
{
	double t = 1e-3;

	for (;;) {
		if (span / t <= max)
			return t;
		if (span / (t * 2) <= max)
			return t * 2;
		if (span / (t * 5) <= max)
			return t * 5;
		t *= 10;
	}
}

static bool starts(const struct event *e, const char *word)
{
	return !strncmp(e->label, word, strlen(word));
}

/* From each freeze to the last jump or retrieve before the next one. */
static void blackouts(void)
{
	unsigned int i, j;

	for (i = 0; i < nr_events; i++) {
		int64_t end = 0;

		if (!starts(&events[i], "freeze"))
			continue;
		for (j = i + 1; j < nr_events && !starts(&events[j], "freeze"); j++)
			if (starts(&events[j], "jump") || starts(&events[j], "retrieve"))
				end = events[j].ns;
		if (!end)
			continue;
		printf("blackout: %.3f s to %.3f s\n", (double)(events[i].ns - zero) / NSEC,
		       (double)(end - zero) / NSEC);
		fprintf(svg,
			"<rect x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"#d9dce3\"/>\n",
			px(events[i].ns), TOP, px(end) - px(events[i].ns), BOTTOM - TOP);
		if (px(end) - px(events[i].ns) > 110)
			text_at((px(end) + px(events[i].ns)) / 2, BOTTOM - 8, "middle",
				"fill=\"#5a6070\"", "blackout %.2f s",
				(double)(end - events[i].ns) / NSEC);
	}
}

static void axes(void)
{
	double t = tick_of((double)(x1 - x0) / NSEC, 14), v, shown;
	/* Small enough a step for labels that start at 1 as well as at 20000. */
	double ty = tick_of(y1, 9);

	if (ty < 1)
		ty = 1;
	v = (double)(x0 - zero) / NSEC;
	for (v = (double)(long long)(v / t) * t; v <= (double)(x1 - zero) / NSEC + 1e-9;
	     v += t) {
		double x = px(zero + (int64_t)(v * NSEC));

		if (x < LEFT - 0.5)
			continue;
		fprintf(svg, "<path d=\"M%.1f %dV%d\" stroke=\"#e4e6ea\"/>\n", x, TOP, BOTTOM);
		shown = v > -t / 2 && v < t / 2 ? 0 : v;
		text_at(x, BOTTOM + 18, "middle", "", "%g", shown);
	}
	for (v = 0; v <= y1; v += ty) {
		double seq = (double)((long long)((marker - 1) / ty) + 1) * ty + v;

		if (seq > marker - 1 + y1)
			break;
		fprintf(svg, "<path d=\"M%d %.1fH%d\" stroke=\"#e4e6ea\"/>\n", LEFT, py(seq),
			RIGHT);
		text_at(LEFT - 8, py(seq) + 4, "end", "", "%.0f", seq);
	}
	fprintf(svg, "<path d=\"M%d %dV%dH%d\" fill=\"none\" stroke=\"#333\"/>\n", LEFT, TOP,
		BOTTOM, RIGHT);
	text_at((LEFT + RIGHT) / 2, BOTTOM + 40, "middle", "",
		"seconds of host time since the first frame that counts");
	text_at(0, 0, "middle", "transform=\"translate(20 287) rotate(-90)\"",
		"number of the frame");
}

static void draw_events(void)
{
	double at = -100;
	unsigned int i;

	for (i = 0; i < nr_events; i++) {
		double x = px(events[i].ns);

		if (events[i].ns < x0 || events[i].ns > x1)
			continue;
		fprintf(svg,
			"<path d=\"M%.1f %dV%d\" stroke=\"#7a5195\" stroke-dasharray=\"4 3\"/>\n",
			x, TOP, BOTTOM);
		/* Labels of events that are close stand side by side. */
		at = x - 4 < at + 13 ? at + 13 : x - 4;
		fprintf(svg,
			"<text transform=\"translate(%.1f %d) rotate(-90)\" text-anchor=\"end\" "
			"fill=\"#5b3a72\" stroke=\"#fff\" stroke-width=\"3\" "
			"paint-order=\"stroke\" font-size=\"12\">",
			at < LEFT + 12 && x - 4 < LEFT + 10 ? at + 16 : at, TOP + 6);
		put_escaped(events[i].label);
		fputs("</text>\n", svg);
	}
}

/*
 * The frames from @a to @b as lines, as few of them as show every point to half a
 * pixel: while the directions in which all points since the last corner can be seen
 * have something in common, there is no corner.
 */
static void path_points(uint64_t a, uint64_t b)
{
	double cx = 0, cy = 0, lx = 0, ly = 0, lo = 0, hi = 0;
	bool begun = false, open = false;

	for (; a <= b; a++) {
		double x, y, l, h;

		if (!(what[a] & SENT))
			continue;
		x = px(sent_ns[a]);
		y = py(a);
		if (!begun) {
			fprintf(svg, "M%.1f %.1f", x, y);
			cx = x;
			cy = y;
			begun = true;
		} else if (x - cx < 0.5 && cy - y < 0.5) {
			;
		} else {
			/* Slopes dx by dy: numbers always grow. */
			l = (x - cx - 0.5) / (cy - y + 1e-9);
			h = (x - cx + 0.5) / (cy - y + 1e-9);
			if (open && (l > hi || h < lo)) {
				fprintf(svg, "L%.1f %.1f", lx, ly);
				cx = lx;
				cy = ly;
				l = (x - cx - 0.5) / (cy - y + 1e-9);
				h = (x - cx + 0.5) / (cy - y + 1e-9);
				open = false;
			}
			lo = open && lo > l ? lo : l;
			hi = open && hi < h ? hi : h;
			open = true;
		}
		lx = x;
		ly = y;
	}
	if (begun)
		fprintf(svg, "L%.1f %.1f", lx, ly);
}

/* Runs of frames between marker and @end whose state under @mask is @is. */
static void draw_runs(uint64_t end, int mask, int is, const char *style)
{
	uint64_t a, b;
	double x = -10, y = -10;

	fputs("<path d=\"", svg);
	for (a = marker; a <= end; a = b + 1) {
		for (b = a; (what[a] & mask) == is && b < end && (what[b + 1] & mask) == is; b++)
			;
		if ((what[a] & mask) != is)
			continue;
		/* What would not be seen beside the one before. */
		if (b == a && px(sent_ns[a]) - x < 0.5 && y - py(a) < 0.5)
			continue;
		path_points(a, b);
		x = px(sent_ns[b]);
		y = py(b);
	}
	fprintf(svg, "\" fill=\"none\" stroke-linecap=\"round\" stroke-linejoin=\"round\" %s/>\n",
		style);
}

static void legend(unsigned long long lost, unsigned long long bad)
{
	static const char *const row[][2] = {
		{ "sent", "stroke=\"#1f2a44\" stroke-width=\"1.2\"" },
		{ "received (at its time of sending)", "stroke=\"#57b894\" stroke-width=\"5\"" },
		{ "lost", "stroke=\"#d62728\" stroke-width=\"6\"" },
		{ "corrupted", "stroke=\"#ff9900\" stroke-width=\"6\"" },
	};
	unsigned int i;
	int y = BOTTOM - 90;

	fprintf(svg, "<rect x=\"%d\" y=\"%d\" width=\"258\" height=\"80\" fill=\"#fff\" stroke=\"#ccc\"/>\n",
		RIGHT - 266, y - 8);
	for (i = 0; i < 4; i++, y += 18) {
		fprintf(svg, "<path d=\"M%d %dh24\" stroke-linecap=\"round\" %s/>\n",
			RIGHT - 256, y + 5, row[i][1]);
		if (i < 2)
			text_at(RIGHT - 222, y + 9, "start", "", "%s", row[i][0]);
		else
			text_at(RIGHT - 222, y + 9, "start", "", "%s: %llu", row[i][0],
				i == 2 ? lost : bad);
	}
}

static void plot_usage(void)
{
	puts("Usage: frames plot --sent FILE --received FILE --events FILE [--output FILE.svg]\n"
	     "                   [--title TEXT] [--max-pause MS]\n"
	     "\n"
	     "  --sent FILE       the log of frames send\n"
	     "  --received FILE   lines \"FIRST-LAST\", \"dup SEQ\", \"bad SEQ\"\n"
	     "  --events FILE     lines \"TIME_NS LABEL\"; \"TIME_NS marker SEQ\" is the first\n"
	     "                    number that counts; the blackout goes from \"freeze...\" to\n"
	     "                    the last of \"jump...\" and \"retrieve...\"; what was sent\n"
	     "                    200 ms before \"end\" must have been received\n"
	     "  --max-pause MS    it is an error if the sender was held up for longer\n"
	     "\n"
	     "Prints the counts from the marker to the last frame received. Exit status 1 if\n"
	     "a frame was lost, corrupted or received twice.");
}

static int cmd_plot(int argc, char **argv)
{
	static const struct option longopts[] = {
		{ "sent", required_argument, NULL, 's' },
		{ "received", required_argument, NULL, 'r' },
		{ "events", required_argument, NULL, 'e' },
		{ "output", required_argument, NULL, 'o' },
		{ "title", required_argument, NULL, 't' },
		{ "max-pause", required_argument, NULL, 'p' },
		{ "help", no_argument, NULL, 'h' },
		{}
	};
	const char *sent = NULL, *received = NULL, *event = NULL, *output = NULL;
	const char *title = "Frames that a device received during a live update";
	unsigned long long nr_sent = 0, nr_got = 0, nr_lost = 0, nr_bad = 0;
	int64_t pause = 0, pause_at = 0, max_pause = 0, before = 0;
	uint64_t seq, last;
	int opt;

	while ((opt = getopt_long(argc, argv, "", longopts, NULL)) != -1) {
		switch (opt) {
		case 's':
			sent = optarg;
			break;
		case 'r':
			received = optarg;
			break;
		case 'e':
			event = optarg;
			break;
		case 'o':
			output = optarg;
			break;
		case 't':
			title = optarg;
			break;
		case 'p':
			max_pause = atoll(optarg) * MSEC;
			break;
		case 'h':
			plot_usage();
			return 0;
		default:
			return 2;
		}
	}
	if (optind < argc)
		die("unknown argument %s (try --help)", argv[optind]);
	read_sent(sent);
	read_received(received);
	if (event)
		read_events(event);
	if (!last_sent)
		die("%s: nothing was sent", sent);
	if (!last_received || last_received < marker) {
		nr_sent = last_sent < marker ? 0 : last_sent - marker + !!marker;
		printf("frames sent / received / lost / corrupted: %llu / 0 / %llu / 0\n",
		       nr_sent, nr_sent);
		return 1;
	}
	for (seq = 1; !marker; seq++)
		if (what[seq] & GOT)
			marker = seq;
	last = last_received;
	/* What was sent a while before the end must have arrived as well. */
	for (seq = last + 1; end_ns && seq <= last_sent; seq++)
		if (what[seq] & SENT && sent_ns[seq] < end_ns - TAIL_NS)
			last = seq;
	for (seq = marker; seq <= last; seq++) {
		nr_sent += !!(what[seq] & (SENT | GOT));
		nr_got += !!(what[seq] & GOT);
		if (what[seq] & BAD)
			nr_bad++;
		else if (!(what[seq] & GOT))
			nr_lost++;
		/* Received and not in the log: the sender was killed. */
		if (!(what[seq] & SENT))
			sent_ns[seq] = before;
		if (before && sent_ns[seq] - before > pause) {
			pause = sent_ns[seq] - before;
			pause_at = before;
		}
		before = sent_ns[seq];
	}
	if (last_sent < last_received)
		last_sent = last_received;
	for (; seq <= last_sent; seq++) {
		/* It doesn't have to be received any more, but to be taken. */
		if (!(what[seq] & SENT) || (end_ns && sent_ns[seq] > end_ns))
			continue;
		if (sent_ns[seq] - before > pause) {
			pause = sent_ns[seq] - before;
			pause_at = before;
		}
		before = sent_ns[seq];
	}
	if (end_ns - before > pause) {
		pause = end_ns - before;
		pause_at = before;
	}

	zero = sent_ns[marker];
	printf("frames sent / received / lost / corrupted: %llu / %llu / %llu / %llu\n",
	       nr_sent, nr_got, nr_lost, nr_bad);
	if (nr_dup)
		printf("frames received twice: %llu\n", (unsigned long long)nr_dup);
	printf("longest pause of the sender: %lld ms, at %.3f s\n", (long long)(pause / MSEC),
	       (double)(pause_at - zero) / NSEC);

	if (output) {
		x1 = sent_ns[last_sent];
		x0 = zero - (x1 - zero) / 40;
		if (x1 - x0 < MSEC)
			x1 = x0 + MSEC;
		y1 = (last_sent - marker + 1) * 1.04;
		svg = must_open(output, "w");
		fprintf(svg,
			"<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" "
			"width=\"%d\" height=\"%d\" font-family=\"sans-serif\" "
			"font-size=\"13\" fill=\"#222\">\n"
			"<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n",
			WIDTH, HEIGHT, WIDTH, HEIGHT, WIDTH, HEIGHT);
		text_at(LEFT, 30, "start", "font-size=\"18\" font-weight=\"bold\"", "%s", title);
		text_at(LEFT, 54, "start", nr_lost || nr_bad || nr_dup ?
			"fill=\"#d62728\"" : "fill=\"#2a7a59\"",
			"sent %llu, received %llu, lost %llu, corrupted %llu, twice %llu; longest pause of the sender %lld ms",
			nr_sent, nr_got, nr_lost, nr_bad, (unsigned long long)nr_dup,
			(long long)(pause / MSEC));
		blackouts();
		axes();
		draw_runs(last, GOT | BAD, GOT,
			  "stroke=\"#57b894\" stroke-width=\"5\"");
		draw_runs(last_sent, SENT, SENT, "stroke=\"#1f2a44\" stroke-width=\"1.2\"");
		draw_runs(last, GOT | BAD, 0,
			  "stroke=\"#d62728\" stroke-width=\"6\"");
		draw_runs(last, BAD, BAD, "stroke=\"#ff9900\" stroke-width=\"6\"");
		draw_events();
		legend(nr_lost, nr_bad);
		fputs("</svg>\n", svg);
		if (fclose(svg))
			die("%s: %s", output, strerror(errno));
	}
	if (max_pause && pause > max_pause) {
		printf("the sender was held up for more than %lld ms\n",
		       (long long)(max_pause / MSEC));
		return 1;
	}
	return nr_lost || nr_bad || nr_dup;
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "send"))
		return cmd_send(argc - 1, argv + 1);
	if (argc > 1 && !strcmp(argv[1], "plot"))
		return cmd_plot(argc - 1, argv + 1);
	send_usage();
	putchar('\n');
	plot_usage();
	return argc > 1 && !strcmp(argv[1], "--help") ? 0 : 2;
}
