/* All SQL of a running node. What makes the tables is in schema.c. */
#include "store/database.h"

#define LOG_COLUMNS "idx, term, kind, lock, client, token, cluster_ms, wall_ms, body"

const char *const statement_texts[STATEMENT_COUNT] = {
        [STATEMENT_BEGIN_READ] = "BEGIN",
        [STATEMENT_BEGIN_WRITE] = "BEGIN IMMEDIATE",
        [STATEMENT_COMMIT] = "COMMIT",
        [STATEMENT_ROLLBACK] = "ROLLBACK",

        [STATEMENT_META_READ] = "SELECT cluster, incarnation, node, name, term, vote, base_index, base_term, base_cluster_ms,"
                                " configuration_index, configuration FROM meta WHERE one = 1",
        [STATEMENT_META_CREATE] = "INSERT INTO meta (one, incarnation, name) VALUES (1, ?1, ?2)",
        [STATEMENT_META_SET_IDENTITY] = "UPDATE meta SET cluster = ?1, incarnation = ?2, node = ?3, name = ?4 WHERE one = 1",
        [STATEMENT_META_SET_HARD_STATE] = "UPDATE meta SET term = ?1, vote = ?2 WHERE one = 1",
        [STATEMENT_META_SET_BASE] = "UPDATE meta SET base_index = ?1, base_term = ?2, base_cluster_ms = ?3,"
                                    " configuration_index = ?4, configuration = ?5 WHERE one = 1",

        [STATEMENT_LOG_APPEND] = "INSERT INTO log (" LOG_COLUMNS ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        [STATEMENT_LOG_TRUNCATE] = "DELETE FROM log WHERE idx >= ?1",
        /* Indices are consecutive, so a range of them is a number of rows. */
        [STATEMENT_LOG_TRIM] = "DELETE FROM log WHERE idx < min(?1, (SELECT min(idx) FROM log) + ?2)",
        [STATEMENT_LOG_CLEAR] = "DELETE FROM log",
        [STATEMENT_LOG_TERM] = "SELECT term FROM log WHERE idx = ?1",
        [STATEMENT_LOG_BOUNDS] = "SELECT coalesce((SELECT min(idx) FROM log), base_index + 1),"
                                 " coalesce((SELECT max(idx) FROM log), base_index), base_index FROM meta WHERE one = 1",
        [STATEMENT_LOG_READ] = "SELECT " LOG_COLUMNS " FROM log WHERE idx >= ?1 ORDER BY idx LIMIT ?2",
        [STATEMENT_LOG_HISTORY] = "SELECT " LOG_COLUMNS " FROM log WHERE idx > ?1 AND idx <= ?2"
                                  " AND (?3 IS NULL OR lock = ?3 OR (instr(lock, char(10)) AND instr(char(10) || lock || char(10), char(10) || ?3 || char(10))))"
                                  " ORDER BY idx LIMIT ?4",

        [STATEMENT_LOCK_PUT] = "INSERT OR REPLACE INTO lock (name, client, token, body) VALUES (?1, ?2, ?3, ?4)",
        [STATEMENT_LOCK_DELETE] = "DELETE FROM lock WHERE name = ?1",
        [STATEMENT_LOCK_LIST] = "SELECT name, client, token, body FROM lock",
        [STATEMENT_LOCK_STAGE] = "INSERT OR REPLACE INTO stage_lock (name, client, token, body) VALUES (?1, ?2, ?3, ?4)",
        [STATEMENT_LOCK_STAGE_CLEAR] = "DELETE FROM stage_lock",

        [STATEMENT_CLIENT_PUT] = "INSERT OR REPLACE INTO client (id, principal, last_index, body) VALUES (?1, ?2, ?3, ?4)",
        [STATEMENT_CLIENT_DELETE] = "DELETE FROM client WHERE id = ?1",
        [STATEMENT_CLIENT_LIST] = "SELECT id, principal, last_index, body FROM client",
        [STATEMENT_CLIENT_STAGE] = "INSERT OR REPLACE INTO stage_client (id, principal, last_index, body) VALUES (?1, ?2, ?3, ?4)",
        [STATEMENT_CLIENT_STAGE_CLEAR] = "DELETE FROM stage_client",

        [STATEMENT_REQUEST_PUT] = "INSERT OR REPLACE INTO request (handle, lock, entry_index, body) VALUES (?1, ?2, ?3, ?4)",
        [STATEMENT_REQUEST_DELETE] = "DELETE FROM request WHERE handle = ?1",
        [STATEMENT_REQUEST_LIST] = "SELECT handle, lock, entry_index, body FROM request",
        [STATEMENT_REQUEST_STAGE] = "INSERT OR REPLACE INTO stage_request (handle, lock, entry_index, body) VALUES (?1, ?2, ?3, ?4)",
        [STATEMENT_REQUEST_STAGE_CLEAR] = "DELETE FROM stage_request",

        [STATEMENT_ADDRESS_PUT] = "INSERT OR REPLACE INTO address (node, address, entry_index, body) VALUES (?1, ?2, ?3, ?4)",
        [STATEMENT_ADDRESS_DELETE] = "DELETE FROM address WHERE node = ?1",
        [STATEMENT_ADDRESS_LIST] = "SELECT node, address, entry_index, body FROM address",
        [STATEMENT_ADDRESS_STAGE] = "INSERT OR REPLACE INTO stage_address (node, address, entry_index, body) VALUES (?1, ?2, ?3, ?4)",
        [STATEMENT_ADDRESS_STAGE_CLEAR] = "DELETE FROM stage_address",

        [STATEMENT_SESSION_PUT] = "INSERT OR REPLACE INTO session (id, client, token, body) VALUES (?1, ?2, ?3, ?4)",
        [STATEMENT_SESSION_DELETE] = "DELETE FROM session WHERE id = ?1",
        [STATEMENT_SESSION_LIST] = "SELECT id, client, token, body FROM session",
        [STATEMENT_SESSION_STAGE] = "INSERT OR REPLACE INTO stage_session (id, client, token, body) VALUES (?1, ?2, ?3, ?4)",
        [STATEMENT_SESSION_STAGE_CLEAR] = "DELETE FROM stage_session",

        [STATEMENT_WAITER_PUT] = "INSERT OR REPLACE INTO waiter (id, lock, number, body) VALUES (?1, ?2, ?3, ?4)",
        [STATEMENT_WAITER_DELETE] = "DELETE FROM waiter WHERE id = ?1",
        [STATEMENT_WAITER_LIST] = "SELECT id, lock, number, body FROM waiter",
        [STATEMENT_WAITER_STAGE] = "INSERT OR REPLACE INTO stage_waiter (id, lock, number, body) VALUES (?1, ?2, ?3, ?4)",
        [STATEMENT_WAITER_STAGE_CLEAR] = "DELETE FROM stage_waiter",
        [STATEMENT_SHARE_PUT] = "INSERT OR REPLACE INTO share (id, lock, token, body) VALUES (?1, ?2, ?3, ?4)",
        [STATEMENT_SHARE_DELETE] = "DELETE FROM share WHERE id = ?1",
        [STATEMENT_SHARE_LIST] = "SELECT id, lock, token, body FROM share",
        [STATEMENT_SHARE_STAGE] = "INSERT OR REPLACE INTO stage_share (id, lock, token, body) VALUES (?1, ?2, ?3, ?4)",
        [STATEMENT_SHARE_STAGE_CLEAR] = "DELETE FROM stage_share",

        [STATEMENT_PERIOD_PUT] = "INSERT OR REPLACE INTO period (lock, client, token, body) VALUES (?1, ?2, ?3, ?4)",
        [STATEMENT_PERIOD_DELETE] = "DELETE FROM period WHERE lock = ?1",
        [STATEMENT_PERIOD_LIST] = "SELECT lock, client, token, body FROM period",
        [STATEMENT_PERIOD_STAGE] = "INSERT OR REPLACE INTO stage_period (lock, client, token, body) VALUES (?1, ?2, ?3, ?4)",
        [STATEMENT_PERIOD_STAGE_CLEAR] = "DELETE FROM stage_period",

        [STATEMENT_DELAY_PUT] = "INSERT OR REPLACE INTO delay (lock, client, token, body) VALUES (?1, ?2, ?3, ?4)",
        [STATEMENT_DELAY_DELETE] = "DELETE FROM delay WHERE lock = ?1",
        [STATEMENT_DELAY_LIST] = "SELECT lock, client, token, body FROM delay",
        [STATEMENT_DELAY_STAGE] = "INSERT OR REPLACE INTO stage_delay (lock, client, token, body) VALUES (?1, ?2, ?3, ?4)",
        [STATEMENT_DELAY_STAGE_CLEAR] = "DELETE FROM stage_delay",

        [STATEMENT_PROMISE_PUT] = "INSERT OR REPLACE INTO promise (what, label, longest_ms, body) VALUES (?1, ?2, ?3, ?4)",
        [STATEMENT_PROMISE_DELETE] = "DELETE FROM promise WHERE what = ?1",
        [STATEMENT_PROMISE_LIST] = "SELECT what, label, longest_ms, body FROM promise",
        [STATEMENT_PROMISE_STAGE] = "INSERT OR REPLACE INTO stage_promise (what, label, longest_ms, body) VALUES (?1, ?2, ?3, ?4)",
        [STATEMENT_PROMISE_STAGE_CLEAR] = "DELETE FROM stage_promise",
};

#define STATE_TABLE(name)                                 \
        {                                                 \
                .table = RAFT_TABLE_##name,               \
                .put = STATEMENT_##name##_PUT,            \
                .delete = STATEMENT_##name##_DELETE,      \
                .list = STATEMENT_##name##_LIST,          \
                .stage = STATEMENT_##name##_STAGE,        \
                .stage_clear = STATEMENT_##name##_STAGE_CLEAR, \
        }

/* In the order in which they are loaded and streamed. */
const struct state_table state_tables[STATE_TABLE_COUNT] = {
        STATE_TABLE(CLIENT),
        STATE_TABLE(SESSION),
        STATE_TABLE(WAITER),
        STATE_TABLE(PERIOD),
        STATE_TABLE(DELAY),
        STATE_TABLE(PROMISE),
        STATE_TABLE(LOCK),
        STATE_TABLE(SHARE),
        STATE_TABLE(REQUEST),
        STATE_TABLE(ADDRESS),
};

const struct state_table *state_table_of(enum raft_table table)
{
        for (size_t i = 0; i < STATE_TABLE_COUNT; i++)
                if (state_tables[i].table == table)
                        return &state_tables[i];
        return NULL;
}
