/* standing.h - who has a lock when everything appended is applied, as far as that can be said. Internal to lock/. */
#pragma once

#include "lock/decide.h"

enum standing {
        FREE,                                /* or, for who wants to hold it together with others: there is room, and nobody waits */
        OWNED,
        UNSURE,                              /* it is being freed, and who has it then, if anybody does, is seen when that is applied */
};

/* T7: what its session held is freed by an entry that is under way, or by the next: until then nothing true can be said of the lock for long. */
bool lock_is_freed_soon(const struct lock_table *table, const struct lock_overlay *overlay, const struct lock_view *lock);
/* Of the lock of that name, for who wants it so, now as the request says. OWNED: *ret_view is a hold that remains. */
enum standing lock_standing(const struct lock_table *table, const struct lock_overlay *overlay, const struct lock_request *request, const struct lock_name *name,
                            uint16_t slots, struct lock_view *ret_view);
