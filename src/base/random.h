/* random.h - bits from the kernel. Not for the pure rooms. */
#pragma once

#include <stdint.h>

#include "base/id128.h"

/* From getrandom(2). Does not fail: the kernel's pool is ready when systemd is. */
uint64_t random_u64(void);
/* A random UUID, version 4. */
struct id128 id128_random(void);
