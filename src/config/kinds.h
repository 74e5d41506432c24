/* kinds.h - the kinds of values that the table of keys uses. */
#pragma once

#include "config/keys.h"

extern const struct config_kind config_kind_name;
extern const struct config_kind config_kind_directory;
extern const struct config_kind config_kind_addresses;      /* struct config_addresses; "none" */
extern const struct config_kind config_kind_address;        /* struct address */
extern const struct config_kind config_kind_advertise;      /* advertise and has_advertise; "none" */
extern const struct config_kind config_kind_flag;           /* bool, one of two words */
extern const struct config_kind config_kind_level;          /* unsigned, the word's place after DIAG_ERROR */
extern const struct config_kind config_kind_number;         /* unsigned or uint64_t */
extern const struct config_kind config_kind_duration;       /* uint64_t, ms */
