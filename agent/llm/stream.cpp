#include "agent/llm/stream.h"

#include <utility>

namespace autoresearch {

void LineCutter::feed(std::string_view bytes,
                      const std::function<void(std::string_view)>& on_line) {
  for (const char c : bytes) {
    const bool second_half = std::exchange(after_cr_, false) && c == '\n';
    if (second_half) continue;
    if (c == '\n' || (lone_cr_ && c == '\r')) {
      after_cr_ = c == '\r';
      on_line(std::exchange(line_, {}));
    } else {
      line_ += c;
    }
  }
}

void LineCutter::finish(const std::function<void(std::string_view)>& on_line) {
  if (!line_.empty()) on_line(std::exchange(line_, {}));
}

void EventCutter::feed(std::string_view bytes, const OnData& on_data) {
  lines_.feed(bytes, [&](std::string_view line) { take_line(line, on_data); });
}

void EventCutter::finish(const OnData& on_data) {
  lines_.finish([&](std::string_view line) { take_line(line, on_data); });
  take_line("", on_data);
}

void EventCutter::take_line(std::string_view line, const OnData& on_data) {
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  if (std::exchange(first_line_, false) && line.starts_with(kByteOrderMark)) {
    line.remove_prefix(kByteOrderMark.size());
  }
  if (line.empty()) {
    if (std::exchange(has_data_, false)) on_data(std::exchange(data_, {}));
    return;
  }
  const size_t colon = line.find(':');
  if (line.substr(0, colon) != "data") return;
  std::string_view value = colon == std::string_view::npos ? "" : line.substr(colon + 1);
  if (value.starts_with(' ')) value.remove_prefix(1);
  if (std::exchange(has_data_, true)) data_ += '\n';
  data_ += value;
}

}  // namespace autoresearch
