package explain

import "github.com/gobcachefs/gobcachefs/ondisk"

// counterOrder is the order in which tools 1.39 print the counters.
var counterOrder = [ondisk.NrCounters]uint8{
	110, 111, 0, 80, 81, 30, 85, 86, 87, 88, 89, 31, 33, 34, 32, 95, 97, 98, 1, 96, 2, 91, 90, 82, 35, 36, 37, 38, 128, 39, 92,
	113, 114, 115, 133, 116, 117, 129, 118, 119, 120, 130, 83, 84, 125, 102, 123, 103, 124, 104, 99, 100, 131, 40, 41, 121, 3,
	108, 109, 4, 79, 5, 6, 122, 127, 126, 112, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 101, 17, 18, 19, 20, 21, 107, 22, 23, 24, 135,
	25, 26, 27, 28, 29, 134, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63, 64, 65, 66,
	67, 68, 69, 70, 71, 72, 73, 74, 132, 75, 76, 105, 77, 78, 106, 94, 93,
}

// counterNames1_13 are the names of 1.13 where they are not those of 1.39. Note
// 32 and 33: the two releases disagree on which is which.
var counterNames1_13 = map[int]string{
	0: "io_read", 1: "io_write", 2: "io_move", 25: "journal_entry_full", 30: "read_promote", 31: "read_bounce", 32: "read_split", 33: "read_retry",
	34: "read_reuse_race", 35: "move_extent_read", 36: "move_extent_write", 37: "move_extent_finish", 38: "move_extent_fail", 39: "move_extent_start_fail",
	41: "copygc_wait", 59: "trans_restart_relock_key_cache_fill", 61: "trans_restart_relock_parent_for_fill", 71: "trans_traverse_all",
}

func counterName1_13(id int) string {
	if n, ok := counterNames1_13[id]; ok {
		return n
	}
	return ondisk.Counter(id).String()
}
