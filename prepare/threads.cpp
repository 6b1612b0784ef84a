#include "prepare/threads.h"

#include <chrono>
#include <exception>
#include <future>
#include <vector>

namespace autoresearch {

void work_together(int64_t count, const std::function<void(const std::atomic<bool>& stop)>& work,
                   const std::function<void()>& on_tick) {
  constexpr std::chrono::milliseconds kTick{50};
  std::atomic<bool> stop = false;
  std::exception_ptr failure;  // what comes after the first comes of it
  const auto guarded = [&](const auto& action) {
    try {
      action();
    } catch (...) {
      if (!stop.exchange(true)) failure = std::current_exception();
    }
  };
  std::vector<std::future<void>> threads;
  guarded([&] {
    for (int64_t i = 0; i < count; ++i)
      threads.push_back(std::async(std::launch::async, [&] { guarded([&] { work(stop); }); }));
    for (const std::future<void>& thread : threads)
      while (thread.wait_for(kTick) != std::future_status::ready) on_tick();
  });
  for (const std::future<void>& thread : threads) thread.wait();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace autoresearch
