#include "config/keys.h"

#include <assert.h>
#include <string.h>

#include "base/cleanup.h"
#include "config/kinds.h"

#define MEMBER_OF(member) .offset = offsetof(struct config, member), .size = sizeof(((struct config *)NULL)->member)
#define BOTH(text) { text, text }

#define PORT_CLIENTS 7401
#define PORT_PEERS 7402

static const char *const words_witness[] = { "no", "yes", NULL };
static const char *const words_insecure[] = { "no", "yes", NULL };
static const char *const words_bootstrap[] = { "auto", "now", NULL };
static const char *const words_level[] = { "error", "warning", "notice", "info", "debug", NULL };

const struct config_key config_keys[] = {
        { "node", "name", "The node's name in status lines and logs", { "leader", "follower-%i" }, &config_kind_name,
          MEMBER_OF(name), .expands = true, .needs_restart = true },
        { "node", "directory", "Where the database is; auto: $STATE_DIRECTORY as systemd sets it, else below /var/lib/dlock", BOTH("auto"), &config_kind_directory,
          MEMBER_OF(directory), .expands = true, .needs_restart = true },
        { "node", "witness", "Whether this node only votes and keeps the locks, and serves no clients; as it was when the node joined", { NULL, "no" }, &config_kind_flag,
          MEMBER_OF(witness), .words = words_witness, .needs_restart = true },

        { "listen", "clients", "Where clients connect", { "/run/dlock/leader.sock, 127.0.0.1:7401", "/run/dlock/follower-%i.sock, 127.77.0.%i:7401" }, &config_kind_addresses,
          MEMBER_OF(clients), .maximum = CONFIG_LISTEN_MAX, .port = PORT_CLIENTS, .numeric = true, .expands = true, .needs_restart = true },
        { "listen", "peers", "Where the other nodes connect", { "127.0.0.1:7402", "127.77.0.%i:7402" }, &config_kind_address,
          MEMBER_OF(peers), .port = PORT_PEERS, .numeric = true, .expands = true, .needs_restart = true },
        { "listen", "allow_insecure", "Whether this node talks unencrypted TCP beyond this host, where anyone on the way can read and forge", BOTH("no"), &config_kind_flag,
          MEMBER_OF(allow_insecure), .words = words_insecure },

        { "peer", "advertise", "Where the other nodes are told to find this one; none: the address in peers, or when that is 0.0.0.0 or [::] the local one of its connections", BOTH("none"), &config_kind_advertise,
          MEMBER_OF(advertise), .port = PORT_PEERS, .expands = true, .needs_restart = true },

        { "cluster", "join", "Members to ask for admission, any of them, at the first start", { "none", "127.0.0.1:7402" }, &config_kind_addresses,
          MEMBER_OF(join), .maximum = CONFIG_JOIN_MAX, .port = PORT_PEERS },
        { "cluster", "bootstrap", "When an empty leader makes a cluster: auto after listening 3 s for an existing one, now at once", { "auto", NULL }, &config_kind_flag,
          MEMBER_OF(bootstrap_now), .words = words_bootstrap },
        { "cluster", "max_voters", "Nodes beyond so many do not vote, they only follow", BOTH("5"), &config_kind_number,
          MEMBER_OF(max_voters), .minimum = 1, .maximum = LIMIT_VOTERS },
        { "cluster", "min_voters", "2: of two voters none goes on alone, even when the other stops cleanly", BOTH("1"), &config_kind_number,
          MEMBER_OF(min_voters), .minimum = 1, .maximum = 2 },

        { "election", "timeout", "How long a follower waits for its leader before it stands for election", BOTH("1s"), &config_kind_duration,
          MEMBER_OF(timeout_ms), .minimum = 100, .maximum = 60000 },
        { "election", "heartbeat", "How often a leader says that it is there; at most a third of timeout", BOTH("100ms"), &config_kind_duration,
          MEMBER_OF(heartbeat_ms), .minimum = 10, .maximum = 20000 },

        { "log", "keep_entries", "Entries kept for history and for followers that were away", BOTH("100000"), &config_kind_number,
          MEMBER_OF(keep_entries), .minimum = 0, .maximum = 100000000 },

        { "diagnostics", "level", "What is said in the journal: this and whatever is more urgent", BOTH("info"), &config_kind_level,
          MEMBER_OF(log_level), .words = words_level },
};
const size_t config_keys_count = ARRAY_SIZE(config_keys);
static_assert(ARRAY_SIZE(config_keys) <= CONFIG_KEYS_MAX, "struct config_settings has room for every row");

const struct config_key *config_key_find(enum config_role role, const char *section, const char *name)
{
        for (size_t i = 0; i < config_keys_count; i++)
                if (config_keys[i].defaults[role] && strcmp(config_keys[i].section, section) == 0 && strcmp(config_keys[i].name, name) == 0)
                        return &config_keys[i];
        return NULL;
}

bool config_section_exists(enum config_role role, const char *section)
{
        for (size_t i = 0; i < config_keys_count; i++)
                if (config_keys[i].defaults[role] && strcmp(config_keys[i].section, section) == 0)
                        return true;
        return false;
}

void config_sections_list(enum config_role role, char text[256])
{
        const char *last = "";
        size_t used = 0;

        for (size_t i = 0; i < config_keys_count; i++)
                if (config_keys[i].defaults[role] && strcmp(config_keys[i].section, last) != 0) {
                        last = config_keys[i].section;
                        used += (size_t)snprintf(text + used, 256 - used, "%s[%s]", used ? ", " : "", last);
                }
}

void config_names_list(enum config_role role, const char *section, char text[256])
{
        size_t used = 0;

        for (size_t i = 0; i < config_keys_count; i++)
                if (config_keys[i].defaults[role] && strcmp(config_keys[i].section, section) == 0)
                        used += (size_t)snprintf(text + used, 256 - used, "%s%s", used ? ", " : "", config_keys[i].name);
}

const char *config_expand(enum config_role role, unsigned instance, const char *text, char *expanded, size_t capacity)
{
        size_t used = 0;

        for (const char *s = text; *s; s++) {
                if (used + 8 > capacity)
                        return "is too long";
                if (*s != '%') {
                        expanded[used++] = *s;
                        continue;
                }
                s++;
                if (*s == '%')
                        expanded[used++] = '%';
                else if (*s == 'i' && role == CONFIG_FOLLOWER)
                        used += (size_t)snprintf(expanded + used, capacity - used, "%u", instance);
                else
                        return "has a '%' that stands for nothing";
        }
        expanded[used] = '\0';
        return NULL;
}

bool config_key_apply(const struct config_key *key, const char *text, struct config *config, char problem[512])
{
        char expanded[1024], accepted[256];
        const char *wrong = NULL, *value = text;

        if (key->expands) {
                wrong = config_expand(config->role, config->instance, text, expanded, sizeof(expanded));
                value = expanded;
        }
        if (!wrong)
                wrong = key->kind->parse(key, value, config);
        if (!wrong)
                return true;
        key->kind->describe(key, accepted);
        (void)snprintf(problem, 512, "%s = %s %s; %s%s would be accepted", key->name, text, wrong, accepted,
                       !key->expands ? "" : config->role == CONFIG_LEADER ? " (%% for a percent sign)" : " (%i for the instance, %% for a percent sign)");
        return false;
}

/* Doubles each '%', so that config_expand gives the same text again. */
static void escape_percent(char text[CONFIG_VALUE_BYTES])
{
        char plain[CONFIG_VALUE_BYTES];
        size_t used = 0;

        memcpy(plain, text, CONFIG_VALUE_BYTES);
        for (const char *s = plain; *s && used + 3 < CONFIG_VALUE_BYTES; s++) {
                text[used++] = *s;
                if (*s == '%')
                        text[used++] = '%';
        }
        text[used] = '\0';
}

void config_key_format(const struct config_key *key, const struct config *config, bool compact, char text[CONFIG_VALUE_BYTES])
{
        key->kind->format(key, config, compact, text);
        if (key->expands)
                escape_percent(text);
}

bool config_list_next(const char **cursor, char *item, size_t capacity)
{
        const char *start = *cursor, *end;

        if (!start)
                return false;
        start += strspn(start, " ");
        end = start + strcspn(start, ",");
        *cursor = *end ? end + 1 : NULL;
        while (end > start && end[-1] == ' ')
                end--;
        (void)snprintf(item, capacity, "%.*s", (int)(end - start), start);
        return true;
}
