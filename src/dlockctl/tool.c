#include "tool.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <wchar.h>

/* --- handles and outcomes --- */

int tool_new_handle(const struct tool *tool, const char *servers, struct dlock **ret_dlock)
{
        char error[512] = "";

        if (dlock_new(ret_dlock, servers, error, sizeof(error)) < 0)
                return tool_fail(EXIT_USAGE, "%s", error);
        if (dlock_set_timeout(*ret_dlock, tool->timeout_ms ? tool->timeout_ms : DLOCK_TIMEOUT_DEFAULT) < 0 || (tool->client && dlock_set_client(*ret_dlock, tool->client) < 0)) {
                (void)tool_fail(EXIT_USAGE, "%s", dlock_get_error(*ret_dlock));
                *ret_dlock = dlock_free(*ret_dlock);
                return EXIT_USAGE;
        }
        return 0;
}

int tool_open(struct tool *tool)
{
        return tool_new_handle(tool, tool->servers, &tool->dlock);
}

int tool_call_failed(const struct tool *tool)
{
        return tool_fail(EXIT_USAGE, "%s", dlock_get_error(tool->dlock));
}

int tool_outcome(const struct dlock_answer *answer)
{
        const char *at = *answer->server ? " at " : "";

        switch (answer->outcome) {
        case DLOCK_YES:
                return EXIT_YES;
        case DLOCK_NO:
                return EXIT_NO;
        case DLOCK_UNKNOWN:
                return tool_fail(EXIT_UNKNOWN, "outcome unknown%s%s: %s", at, answer->server, answer->reason);
        case DLOCK_UNREACHABLE:
                return tool_fail(EXIT_UNREACHABLE, "%s", answer->reason);
        case DLOCK_REJECTED:
        case DLOCK_REENTERED:
                return tool_fail(EXIT_USAGE, "refused%s%s: %s", at, answer->server, answer->reason);
        }
        return EXIT_UNKNOWN;
}

int tool_catch_signals(sigset_t *ret_set)
{
        static const int numbers[] = { SIGTERM, SIGINT, SIGHUP, SIGQUIT };
        struct sigaction action;
        int signals;

        (void)sigemptyset(ret_set);
        for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
                if (sigaction(numbers[i], NULL, &action) == 0 && action.sa_handler != SIG_IGN)
                        (void)sigaddset(ret_set, numbers[i]);
        (void)sigprocmask(SIG_BLOCK, ret_set, NULL);
        signals = signalfd(-1, ret_set, SFD_CLOEXEC | SFD_NONBLOCK);
        return signals < 0 ? -errno : signals;
}

int tool_ask(struct tool *tool, const char *lock, const struct tool_question *question)
{
        struct dlock_answer answer;
        int code = tool->dlock ? 0 : tool_open(tool);

        if (code)
                return code;
        if (question->call(tool, lock, &answer) < 0)
                return tool_call_failed(tool);
        code = tool_outcome(&answer);
        if (code <= EXIT_NO && question->judge)
                code = question->judge(tool, &answer);
        if (code > EXIT_NO)
                return code;
        if (tool->json)
                question->put_json(tool, &answer);
        else
                question->print(tool, &answer);
        return code;
}

int tool_ask_node(struct tool *tool, int (*call)(struct dlock *dlock, const char *node, struct dlock_answer *ret_answer), const char *node, const char *key)
{
        struct json_object *object;
        struct dlock_answer answer;
        int code = tool_open(tool);

        if (code)
                return code;
        if (call(tool->dlock, node, &answer) < 0)
                return tool_call_failed(tool);
        code = tool_outcome(&answer);
        if (code || !tool->json)
                return code;
        object = json_object_new_object();
        json_object_object_add(object, key, json_object_new_string(node));
        tool_put_json(object);
        return EXIT_YES;
}

/* --- text --- */

/* Writes in the other direction, or changes that of what comes after: a name would look like another. */
static bool turns_text(const unsigned char *s, size_t length)
{
        if (length == 2)
                return s[0] == 0xd8 && s[1] == 0x9c;                    /* U+061C */
        return length == 3 && s[0] == 0xe2 &&
               ((s[1] == 0x80 && (s[2] == 0x8e || s[2] == 0x8f)) ||       /* U+200E, U+200F */
                (s[1] == 0x80 && s[2] >= 0xaa && s[2] <= 0xae) ||         /* U+202A to U+202E */
                (s[1] == 0x81 && s[2] >= 0xa6 && s[2] <= 0xa9));          /* U+2066 to U+2069 */
}

/* The length of the UTF-8 sequence at s, 0 when there is none or it is a control character. */
static size_t clean_length(const unsigned char *s)
{
        size_t length = s[0] < 0x80 ? 1 : s[0] >= 0xc2 && s[0] < 0xe0 ? 2 : s[0] >= 0xe0 && s[0] < 0xf0 ? 3 : s[0] >= 0xf0 && s[0] < 0xf5 ? 4 : 0;

        for (size_t i = 1; i < length; i++)
                if ((s[i] & 0xc0) != 0x80)
                        return 0;
        if (length == 1 && (s[0] < 0x20 || s[0] == 0x7f))
                return 0;
        return length == 2 && s[0] == 0xc2 && s[1] < 0xa0 ? 0 : length;
}

/* Of a terminal: letters of some scripts take two, and marks upon others none. */
static int columns_of(const unsigned char *s, size_t length)
{
        wchar_t letter;
        int columns;

        if (mbtowc(&letter, (const char *)s, length) <= 0)
                return 1;
        columns = wcwidth(letter);
        return columns >= 0 ? columns : 1;
}

/* Returns how many columns it took. */
static int print_clean(FILE *file, const char *text)
{
        const unsigned char *s = (const unsigned char *)text;
        int columns = 0;

        while (*s) {
                size_t length = clean_length(s);

                bool is_clean = length > 0 && !turns_text(s, length);

                if (is_clean)
                        (void)fwrite(s, 1, length, file);
                else
                        (void)fputc('?', file);
                columns += is_clean ? columns_of(s, length) : 1;
                s += length ? length : 1;
        }
        return columns;
}

void tool_print(FILE *file, const char *text)
{
        (void)print_clean(file, text);
}

void tool_print_column(const char *text, int width)
{
        int columns = print_clean(stdout, text);

        (void)printf("%*s", columns < width ? width - columns : 0, "");
}

int tool_fail(int code, const char *format, ...)
{
        char text[2048];
        va_list values;

        va_start(values, format);
        (void)vsnprintf(text, sizeof(text), format, values);
        va_end(values);
        (void)fputs("dlockctl: ", stderr);
        tool_print(stderr, text);
        (void)fputc('\n', stderr);
        return code;
}

/* Tokens are exact in JSON numbers. One that no grant can have is a slip, and a fence that took it would refuse everybody from then on. */
#define TOKEN_MAX ((UINT64_C(1) << 53) - 1)

bool tool_parse_token(const char *text, uint64_t *ret_token)
{
        size_t digits = strspn(text, "0123456789");

        errno = 0;
        *ret_token = strtoull(text, NULL, 10);
        return digits > 0 && !text[digits] && errno == 0 && *ret_token > 0 && *ret_token <= TOKEN_MAX;
}

const char *tool_duration(uint64_t ms, char buffer[48])
{
        uint64_t s = ms / 1000;

        if (ms < 10000)
                (void)snprintf(buffer, 48, "%" PRIu64 ".%01" PRIu64 " s", s, ms % 1000 / 100);
        else if (s < 120)
                (void)snprintf(buffer, 48, "%" PRIu64 " s", s);
        else if (s < 7200)
                (void)snprintf(buffer, 48, "%" PRIu64 " min", s / 60);
        else if (s < 172800)
                (void)snprintf(buffer, 48, "%" PRIu64 " h %" PRIu64 " min", s / 3600, s / 60 % 60);
        else
                (void)snprintf(buffer, 48, "%" PRIu64 " d %" PRIu64 " h", s / 86400, s / 3600 % 24);
        return buffer;
}

const char *tool_time(uint64_t wall_ms, char buffer[48])
{
        time_t seconds = (time_t)(wall_ms / 1000);
        struct tm parts;

        if (wall_ms / 1000 > (uint64_t)INT32_MAX * 100 || !localtime_r(&seconds, &parts) || strftime(buffer, 48, "%F %T", &parts) == 0)
                (void)strcpy(buffer, "-");
        return buffer;
}

const char *tool_age(int64_t leader_age_ms, char buffer[64])
{
        char duration[48];

        if (leader_age_ms < 0)
                (void)strcpy(buffer, "never heard from a leader");
        else if (leader_age_ms < 1000)
                (void)snprintf(buffer, 64, "leader heard %d ms ago", (int)leader_age_ms);
        else
                (void)snprintf(buffer, 64, "leader heard %s ago", tool_duration((uint64_t)leader_age_ms, duration));
        return buffer;
}

/* On the clock that a deadline is on. */
static uint64_t boottime_ms(void)
{
        struct timespec now;

        if (clock_gettime(CLOCK_BOOTTIME, &now) < 0)
                abort();
        return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

const char *tool_life(const struct dlock_answer *answer, char buffer[96])
{
        uint64_t now = boottime_ms();
        char left[48];

        buffer[0] = 0;
        if (answer->outcome == DLOCK_YES && answer->deadline_ms > 0)
                (void)snprintf(buffer, 96, ", for %s if it is not renewed", tool_duration(answer->deadline_ms > now ? answer->deadline_ms - now : 0, left));
        return buffer;
}

const char *tool_free(const struct dlock_answer *answer, char buffer[80])
{
        char left[48];

        if (answer->free_in_ms > 0)
                (void)snprintf(buffer, 80, "free in %s (lock-delay)", tool_duration(answer->free_in_ms + 99, left));
        else
                (void)strcpy(buffer, "free");
        return buffer;
}

uint32_t tool_lock_delay_ms(const struct tool *tool, uint64_t ttl_ms, uint64_t stop_ms)
{
        uint64_t drift_ms = ttl_ms / 100, usual_ms = (stop_ms > drift_ms ? stop_ms : drift_ms) + 1000;

        if (tool->lock_delay_ms >= 0)
                return (uint32_t)tool->lock_delay_ms;
        return (uint32_t)(usual_ms < DLOCK_LOCK_DELAY_MAX ? usual_ms : DLOCK_LOCK_DELAY_MAX);
}

const char *tool_mode(uint32_t slots, char buffer[24])
{
        buffer[0] = 0;
        if (slots == DLOCK_SHARED)
                (void)strcpy(buffer, " (shared)");
        else if (slots > 1)
                (void)snprintf(buffer, 24, " (%" PRIu32 " slots)", slots);
        return buffer;
}

const char *tool_others(uint32_t holders, char buffer[32])
{
        buffer[0] = 0;
        if (holders > 1)
                (void)snprintf(buffer, 32, " and %" PRIu32 " other%s", holders - 1, holders > 2 ? "s" : "");
        return buffer;
}

/* --- several locks, all or nothing --- */

void tool_add_lock(struct tool *tool, const char *lock)
{
        if (tool->further_count < DLOCK_LOCKS_MAX)
                tool->further[tool->further_count++] = lock;
}

const char *tool_lock_of(const struct tool *tool, const char *first, size_t number)
{
        return number == 0 ? first : number <= tool->further_count ? tool->further[number - 1] : NULL;
}

const char *tool_label(const struct tool *tool, const char *first, char buffer[TOOL_LABEL_SIZE])
{
        size_t used = 0;
        const char *lock;

        for (size_t i = 0; tool->further_count > 0 && (lock = tool_lock_of(tool, first, i)) && used < TOOL_LABEL_SIZE; i++)
                used += (size_t)snprintf(buffer + used, TOOL_LABEL_SIZE - used, "%s%s", i > 0 ? ", " : "", lock);
        return tool->further_count > 0 ? buffer : first;
}

/* --- JSON --- */

void tool_json_locks(struct json_object *object, const struct tool *tool, const char *first)
{
        struct json_object *locks = tool->further_count > 0 ? json_object_new_array() : NULL;
        const char *lock;

        for (size_t i = 0; locks && (lock = tool_lock_of(tool, first, i)); i++)
                json_object_array_add(locks, json_object_new_string(lock));
        if (locks)
                json_object_object_add(object, "locks", locks);
}

void tool_json_life(struct json_object *object, const struct tool *tool, const struct dlock_answer *answer)
{
        json_object_object_add(object, "session", tool_json_token(answer->session));
        json_object_object_add(object, "ttl_ms", tool_json_token(answer->session ? tool->ttl_ms : 0));
        json_object_object_add(object, "deadline_boottime_ms", tool_json_token(answer->deadline_ms));
}

void tool_put_json(struct json_object *object)
{
        (void)puts(json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
        (void)json_object_put(object);
}

struct json_object *tool_json_text(const char *text)
{
        return text && *text ? json_object_new_string(text) : NULL;
}

struct json_object *tool_json_token(uint64_t token)
{
        return token ? json_object_new_uint64(token) : NULL;
}

struct json_object *tool_json_slots(bool held, uint32_t slots)
{
        if (!held)
                return NULL;
        return slots == DLOCK_SHARED ? json_object_new_string("shared") : json_object_new_uint64(slots > 1 ? slots : 1);
}

struct json_object *tool_json_age(int64_t age_ms)
{
        return age_ms >= 0 ? json_object_new_int64(age_ms) : NULL;
}
