/* Settings: what is accepted, what is refused and in which words, and that what is printed is read back. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "config/settings.h"
#include "unit/suite.h"

static char directory[64];
static char error[512];
static struct config config;

static char *path_of(const char *name, char path[128])
{
        (void)snprintf(path, 128, "%s/%.60s", directory, name);
        return path;
}

static void write_file(const char *name, const void *text, size_t size)
{
        char path[128];
        _cleanup_fclose_ FILE *file = fopen(path_of(name, path), "we");

        ck_assert_ptr_nonnull(file);
        ck_assert_uint_eq(fwrite(text, 1, size, file), size);
}

static void setup(void)
{
        (void)strcpy(directory, "/tmp/dlock-test-config-XXXXXX");
        ck_assert_ptr_nonnull(mkdtemp(directory));
        (void)unsetenv("STATE_DIRECTORY");
        error[0] = 0;
        memset(&config, 0x5a, sizeof(config));
}

static void teardown(void)
{
        static const char *const names[] = { "leader.ini", "follower.ini", "follower-2.ini" };
        char path[128];

        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                (void)unlink(path_of(names[i], path));
        (void)rmdir(directory);
}

static int load_leader(const char *text)
{
        write_file("leader.ini", text, strlen(text));
        return config_load(directory, CONFIG_LEADER, 0, &config, error);
}

/* Refused, naming file and line, with these words, and what would be accepted; config is untouched. */
static void assert_refused(const char *text, unsigned line, const char *words)
{
        static const struct config untouched = { 0 };
        char place[160], path[128];

        config = untouched;
        ck_assert_msg(load_leader(text) == -EINVAL, "accepted: %s", text);
        ck_assert_int_eq(memcmp(&config, &untouched, sizeof(config)), 0);
        (void)snprintf(place, sizeof(place), "%s:%u: ", path_of("leader.ini", path), line);
        ck_assert_msg(strncmp(error, place, strlen(place)) == 0, "%s: %s", text, error);
        ck_assert_msg(strstr(error, words) != NULL, "%s: %s", text, error);
        ck_assert_msg(strstr(error, "would be accepted") != NULL, "%s: %s", text, error);
        ck_assert_ptr_null(strchr(error, '\n'));
}

START_TEST(without_files_all_is_default)
{
        ck_assert_int_eq(config_load(directory, CONFIG_LEADER, 0, &config, error), 0);
        ck_assert_str_eq(config.name, "leader");
        ck_assert_str_eq(config.directory, "/var/lib/dlock/leader");
        ck_assert_uint_eq(config.clients.count, 2);
        ck_assert_str_eq(config.clients.items[0].host, "/run/dlock/leader.sock");
        ck_assert_uint_eq(config.clients.items[1].port, 7401);
        ck_assert_str_eq(config.peers.host, "127.0.0.1");
        ck_assert_uint_eq(config.peers.port, 7402);
        ck_assert_uint_eq(config.join.count, 0);
        ck_assert(!config.bootstrap_now && !config.allow_insecure && !config.has_advertise);
        ck_assert_uint_eq(config.max_voters, 5);
        ck_assert_uint_eq(config.timeout_ms, 1000);
        ck_assert_uint_eq(config.heartbeat_ms, 100);

        ck_assert_int_eq(config_load(directory, CONFIG_FOLLOWER, 7, &config, error), 0);
        ck_assert_str_eq(config.name, "follower-7");
        ck_assert_str_eq(config.clients.items[0].host, "/run/dlock/follower-7.sock");
        ck_assert_str_eq(config.peers.host, "127.77.0.7");
        ck_assert_uint_eq(config.join.count, 1);
}
END_TEST

START_TEST(instance_s_file_comes_after_the_shared_one)
{
        static const char shared[] = "[node]\nname = n-%i\n[log]\nkeep_entries = 5\n", own[] = "[log]\nkeep_entries = 6\n";

        write_file("follower.ini", shared, strlen(shared));
        write_file("follower-2.ini", own, strlen(own));
        ck_assert_int_eq(config_load(directory, CONFIG_FOLLOWER, 2, &config, error), 0);
        ck_assert_str_eq(config.name, "n-2");
        ck_assert_uint_eq(config.keep_entries, 6);
        ck_assert_int_eq(config_load(directory, CONFIG_FOLLOWER, 3, &config, error), 0);
        ck_assert_str_eq(config.name, "n-3");
        ck_assert_uint_eq(config.keep_entries, 5);
}
END_TEST

START_TEST(state_directory_of_the_unit_is_the_default_directory)
{
        ck_assert_int_eq(setenv("STATE_DIRECTORY", "/srv/state", 1), 0);
        ck_assert_int_eq(config_load(directory, CONFIG_LEADER, 0, &config, error), 0);
        ck_assert_str_eq(config.directory, "/srv/state");
}
END_TEST

START_TEST(values_are_taken_up_to_their_bounds)
{
        ck_assert_msg(load_leader("[cluster]\nmax_voters = 1\nmin_voters = 1\n[election]\ntimeout = 60s\nheartbeat = 20s\n[log]\nkeep_entries = 0\n") == 0,
                      "%s", error);
        ck_assert_uint_eq(config.max_voters, 1);
        ck_assert_uint_eq(config.timeout_ms, 60000);
        ck_assert_uint_eq(config.heartbeat_ms, 20000);
        ck_assert_int_eq(load_leader("[election]\ntimeout = 100ms\nheartbeat = 10ms\n[log]\nkeep_entries = 100000000\n[cluster]\nmax_voters = 9\n"), 0);
}
END_TEST

START_TEST(values_beyond_their_bounds_are_refused)
{
        assert_refused("[cluster]\nmax_voters = 0\n", 2, "max_voters");
        assert_refused("[cluster]\nmax_voters = 10\n", 2, "1 to 9");
        assert_refused("[cluster]\nmax_voters = -1\n", 2, "max_voters");
        assert_refused("[cluster]\nmax_voters = 3x\n", 2, "max_voters");
        assert_refused("[election]\n\ntimeout = 99ms\n", 3, "timeout");
        assert_refused("[election]\ntimeout = soon\n", 2, "timeout");
        assert_refused("[log]\nkeep_entries = 100000001\n", 2, "keep_entries");
        assert_refused("[log]\nkeep_entries = 99999999999999999999\n", 2, "keep_entries");
        assert_refused("[node]\nname = a b\n", 2, "name");
        assert_refused("[node]\ndirectory = relative\n", 2, "directory");
        assert_refused("[diagnostics]\nlevel = loud\n", 2, "level");
        assert_refused("[cluster]\nbootstrap = later\n", 2, "bootstrap");
        assert_refused("[listen]\nclients = host.example:7401\n", 2, "numeric");
        assert_refused("[listen]\npeers = 127.0.0.1:0\n", 2, "peers");
        assert_refused("[listen]\npeers = 127.0.0.1:65536\n", 2, "peers");
        assert_refused("[listen]\nclients = /run/a-path-of-108-bytes-is-one-more-than-a-socket-may-have/as-sun_path-has-room-for-107-and-the-zero-behind\n", 2,
                       "longer than 107 bytes");
        assert_refused("[listen]\nallow_insecure = yes\n[peer]\nadvertise = 0.0.0.0:7402\n", 4, "leads to no host");
        assert_refused("[listen]\nallow_insecure = yes\n[cluster]\njoin = 10.0.0.1:7402, [0::0]:7402\n", 4, "leads to no host");
}
END_TEST

START_TEST(what_no_key_is_called_is_refused)
{
        assert_refused("[nodes]\n", 1, "[nodes]");
        assert_refused("[node]\nnames = x\n", 2, "names");
        assert_refused("[log]\nname = x\n", 2, "name");
        assert_refused("name = x\n", 1, "section");
        assert_refused("[node]\nname\n", 2, "key = value");
        assert_refused("[node]\n name = x\n", 2, "indented");
        assert_refused("[cluster]\nmax_voters = 1\nmin_voters = 2\n", 3, "min_voters");
        assert_refused("[node]\nname = a\nname = b\n", 3, "name");
        assert_refused("[node\nname = a\n", 1, "without");
}
END_TEST

START_TEST(bytes_that_a_library_would_misread_are_refused)
{
        static const char zero[] = "[node]\nname = a\0b\n";
        char text[3000];

        write_file("leader.ini", zero, sizeof(zero) - 1);
        ck_assert_int_eq(config_load(directory, CONFIG_LEADER, 0, &config, error), -EINVAL);
        assert_refused("[node]\nname = a ; b\n", 2, "comment");
        assert_refused("[node]\nname = ; b\n", 2, "comment");
        assert_refused("[node]\nname: a\n", 2, "key = value");
        assert_refused("[node]\nname = a\n b\n", 3, "indented");
        assert_refused("[node]\nname = a\n  directory = /b\n", 3, "indented");
        assert_refused("[node]\nname = a\x01\n", 2, "control");
        assert_refused("[node]\n; \xff\n", 2, "UTF-8");
        assert_refused("[node]\nname = a\n[]\n", 3, "without a name");
        assert_refused("[node] name = a\n", 1, "text after");
        assert_refused("[node]\nname = a\n\n[nodes]\n; nothing\n", 4, "unknown section [nodes]");
        (void)snprintf(text, sizeof(text), "[node]\nname = %02800d\n", 1);
        assert_refused(text, 2, "longer than 198");
}
END_TEST

START_TEST(pipe_in_place_of_a_file_is_refused_at_once)
{
        char path[128];

        ck_assert_int_eq(mkfifo(path_of("leader.ini", path), 0600), 0);
        ck_assert_int_eq(config_load(directory, CONFIG_LEADER, 0, &config, error), -EINVAL);
        ck_assert_ptr_nonnull(strstr(error, "leader.ini: a pipe; a file would be accepted"));
        ck_assert_int_eq(unlink(path), 0);
        /* What a unit is masked with says nothing. */
        ck_assert_int_eq(symlink("/dev/null", path), 0);
        ck_assert_msg(config_load(directory, CONFIG_LEADER, 0, &config, error) == 0, "%s", error);
        ck_assert_int_eq(unlink(path), 0);
}
END_TEST

START_TEST(lines_and_names_that_a_library_would_cut_are_refused)
{
        char text[1000];

        /* 198 bytes with the key, then 199. */
        (void)snprintf(text, sizeof(text), "[node]\ndirectory = /%0185d\nname = x\n", 1);
        ck_assert_msg(load_leader(text) == 0, "%s", error);
        ck_assert_uint_eq(strlen(config.directory), 186);
        ck_assert_str_eq(config.name, "x");
        (void)snprintf(text, sizeof(text), "[node]\ndirectory = /%0186d\nname = x\n", 1);
        assert_refused(text, 2, "longer than 198");
        (void)snprintf(text, sizeof(text), "[node]\n;%0197d\r\nname = x\n", 1);
        ck_assert_msg(load_leader(text) == 0, "%s", error);
        /* What is cut off must not be read as a line of its own either. */
        (void)snprintf(text, sizeof(text), "[node]\n;%0197dname = x\n", 1);
        assert_refused(text, 2, "longer than 198");

        (void)snprintf(text, sizeof(text), "[%050d]\n", 1);
        assert_refused(text, 1, "longer than 49");
        (void)snprintf(text, sizeof(text), "[node]\n%050d = x\n", 1);
        assert_refused(text, 2, "longer than 49");
        (void)snprintf(text, sizeof(text), "[node]\n%049d = x\n", 1);
        assert_refused(text, 2, "unknown key");
}
END_TEST

START_TEST(tcp_beyond_the_host_must_be_admitted)
{
        assert_refused("[listen]\npeers = 10.0.0.1:7402\n", 2, "allow_insecure = yes");
        assert_refused("[listen]\nclients = 0.0.0.0:7401\n", 2, "allow_insecure = yes");
        assert_refused("[cluster]\njoin = db.example:7402\n", 2, "allow_insecure = yes");
        ck_assert_int_eq(load_leader("[listen]\npeers = 10.0.0.1:7402\nallow_insecure = yes\n"), 0);
        ck_assert(config.allow_insecure);
        ck_assert_int_eq(load_leader("[listen]\npeers = 127.1.2.3:7402\nclients = [::1]:7401\n"), 0);
}
END_TEST

START_TEST(heartbeat_is_at_most_a_third_of_the_timeout)
{
        assert_refused("[election]\ntimeout = 1s\nheartbeat = 334ms\n", 3, "heartbeat");
        ck_assert_int_eq(load_leader("[election]\ntimeout = 1s\nheartbeat = 333ms\n"), 0);
}
END_TEST

/* What is printed, read again, prints the same. */
static void assert_prints_back(const struct config *printed, enum config_role role, unsigned instance)
{
        static struct config_settings settings;
        _cleanup_free_ char *first = NULL, *second = NULL;
        size_t size;
        struct config again;
        FILE *file = open_memstream(&first, &size);

        config_print(printed, file);
        (void)fclose(file);
        file = fmemopen(first, size, "r");
        ck_assert_msg(config_settings_load_stream(file, "printed", role, instance, &settings, &again, error) == 0, "%s\n%s", error, first);
        (void)fclose(file);
        file = open_memstream(&second, &size);
        config_print(&again, file);
        (void)fclose(file);
        ck_assert_str_eq(first, second);
}

static int load_follower(const char *text)
{
        write_file("follower.ini", text, strlen(text));
        return config_load(directory, CONFIG_FOLLOWER, 2, &config, error);
}

START_TEST(witness_has_no_clients)
{
        ck_assert_int_eq(load_follower("[node]\nwitness = yes\n"), 0);
        ck_assert(config.witness);
        ck_assert_uint_eq(config.clients.count, 0);
        ck_assert_uint_eq(config.peers.port, 7402);
        assert_prints_back(&config, CONFIG_FOLLOWER, 2);
        /* As the shipped file has it. */
        ck_assert_int_eq(load_follower("[node]\nwitness = yes\n[listen]\nclients = /run/dlock/follower-%i.sock, 127.77.0.%i:7401\n"), 0);
        ck_assert_uint_eq(config.clients.count, 0);
        ck_assert_int_eq(load_follower("[listen]\nclients = none\n[node]\nwitness = yes\n"), 0);
        ck_assert_int_eq(load_follower("[node]\nwitness = yes\n[listen]\nclients = /run/x.sock\n"), -EINVAL);
        ck_assert_msg(strstr(error, "follower.ini:4: clients ") && strstr(error, "clients = none, or witness = no") && strstr(error, "would be accepted"), "%s", error);
        ck_assert_int_eq(load_follower("[node]\nwitness = maybe\n"), -EINVAL);
        assert_refused("[node]\nwitness = yes\n", 2, "unknown key witness");      /* a leader is none */
}
END_TEST

START_TEST(comments_spaces_and_a_missing_last_newline_are_fine)
{
        ck_assert_msg(load_leader("; comment\n# another\n\n[node]  \nname =  x  \n[log]\nkeep_entries=7") == 0, "%s", error);
        ck_assert_str_eq(config.name, "x");
        ck_assert_uint_eq(config.keep_entries, 7);
}
END_TEST

START_TEST(what_is_printed_is_read_back)
{
        ck_assert_int_eq(load_leader("[node]\nname = x\n[listen]\nclients = none\npeers = 127.9.9.9:1\n[peer]\nadvertise = localhost:5\n"
                                     "[cluster]\nbootstrap = now\njoin = localhost:1, 127.0.0.1:2\n[diagnostics]\nlevel = debug\n"), 0);
        assert_prints_back(&config, CONFIG_LEADER, 0);
        ck_assert_int_eq(config_load(directory, CONFIG_FOLLOWER, 250, &config, error), 0);
        assert_prints_back(&config, CONFIG_FOLLOWER, 250);
}
END_TEST

/* The shipped file is config_print_defaults's output; tests run at the top of the tree. */
static void assert_shipped(enum config_role role, const char *path)
{
        _cleanup_free_ char *made = NULL, *shipped = calloc(1, 65536);
        _cleanup_fclose_ FILE *file = fopen(path, "re");
        size_t size;
        FILE *out = open_memstream(&made, &size);

        config_print_defaults(role, out);
        (void)fclose(out);
        ck_assert_msg(file != NULL, "%s is missing", path);
        ck_assert_uint_lt(fread(shipped, 1, 65535, file), 65535);
        ck_assert_str_eq(shipped, made);
}

START_TEST(shipped_files_have_every_key_at_its_default)
{
        assert_shipped(CONFIG_LEADER, "etc/leader.ini");
        assert_shipped(CONFIG_FOLLOWER, "etc/follower.ini");
}
END_TEST

START_TEST(what_only_a_restart_applies_is_named)
{
        struct config before;
        char names[256];

        ck_assert_int_eq(load_leader("[log]\nkeep_entries = 1\n"), 0);
        before = config;
        ck_assert_int_eq(load_leader("[log]\nkeep_entries = 2\n"), 0);
        ck_assert_uint_eq(config_needs_restart(&before, &config, names), 0);
        ck_assert_int_eq(load_leader("[node]\nname = other\n[listen]\npeers = 127.0.0.2:7402\n"), 0);
        ck_assert_uint_eq(config_needs_restart(&before, &config, names), 2);
        ck_assert_ptr_nonnull(strstr(names, "name"));
        ck_assert_ptr_nonnull(strstr(names, "peers"));
}
END_TEST

static Suite *suite(void)
{
        Suite *s = suite_create("config");
        TCase *c = tcase_create("config");

        tcase_add_checked_fixture(c, setup, teardown);
        tcase_add_test(c, without_files_all_is_default);
        tcase_add_test(c, instance_s_file_comes_after_the_shared_one);
        tcase_add_test(c, state_directory_of_the_unit_is_the_default_directory);
        tcase_add_test(c, values_are_taken_up_to_their_bounds);
        tcase_add_test(c, values_beyond_their_bounds_are_refused);
        tcase_add_test(c, what_no_key_is_called_is_refused);
        tcase_add_test(c, bytes_that_a_library_would_misread_are_refused);
        tcase_add_test(c, pipe_in_place_of_a_file_is_refused_at_once);
        tcase_add_test(c, lines_and_names_that_a_library_would_cut_are_refused);
        tcase_add_test(c, tcp_beyond_the_host_must_be_admitted);
        tcase_add_test(c, heartbeat_is_at_most_a_third_of_the_timeout);
        tcase_add_test(c, witness_has_no_clients);
        tcase_add_test(c, comments_spaces_and_a_missing_last_newline_are_fine);
        tcase_add_test(c, what_is_printed_is_read_back);
        tcase_add_test(c, shipped_files_have_every_key_at_its_default);
        tcase_add_test(c, what_only_a_restart_applies_is_named);
        suite_add_tcase(s, c);
        return s;
}

int main(void)
{
        return run_suite(suite());
}
