// Several threads at one work, while this one watches.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

namespace autoresearch {

// Calls `work` in `count` threads, and `on_tick` in this one, some 20 times a second until all of
// them have ended. What is thrown first sets `stop`, at which the others should end soon, and is
// thrown here when they have.
void work_together(int64_t count, const std::function<void(const std::atomic<bool>& stop)>& work,
                   const std::function<void()>& on_tick);

}  // namespace autoresearch
