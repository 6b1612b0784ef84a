#include "agent/llm/event_cutter.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>
#include <utility>

#include "common/text.h"

namespace autoresearch {
namespace {

constexpr uint32_t kStandIns = 0x10FF00;  // one for each byte
constexpr std::string_view kReplacement = "\uFFFD";

void append_utf8(std::string& text, uint32_t c) {
  if (c < 0x80) {
    text += static_cast<char>(c);
    return;
  }
  const int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
  constexpr uint8_t kLeads[] = {0, 0xC0, 0xE0, 0xF0};
  text += static_cast<char>(kLeads[more] | (c >> (6 * more)));
  for (int k = more - 1; k >= 0; --k) text += static_cast<char>(0x80 | ((c >> (6 * k)) & 0x3F));
}

// The value of "\uXXXX" at the start of `text`.
std::optional<uint32_t> escaped(std::string_view text) {
  if (text.size() < 6 || !text.starts_with("\\u")) return std::nullopt;
  uint32_t value = 0;
  const char* const end = text.data() + 6;
  return std::from_chars(text.data() + 2, end, value, 16).ptr == end ? std::optional(value)
                                                                     : std::nullopt;
}

bool is_high(uint32_t c) { return c >= 0xD800 && c < 0xDC00; }
bool is_low(uint32_t c) { return c >= 0xDC00 && c < 0xE000; }

// The surrogate whose three bytes (which are no UTF-8) stand at `i`; 0 if there is none.
uint32_t surrogate_at(std::string_view bytes, size_t i) {
  const auto byte = [&](size_t k) { return static_cast<uint8_t>(bytes[i + k]); };
  if (i + 3 > bytes.size() || byte(0) != 0xED || (byte(1) & 0xE0) != 0xA0 ||
      (byte(2) & 0xC0) != 0x80)
    return 0;
  return 0xD000 | (byte(1) & 0x3Fu) << 6 | (byte(2) & 0x3Fu);
}

}  // namespace

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

std::string with_stand_ins(std::string_view json) {
  std::string out;
  const auto stand_in = [&](char byte) {
    append_utf8(out, kStandIns + static_cast<uint8_t>(byte));
  };
  for (size_t i = 0, length; i < json.size(); i += length) {
    const std::string_view rest = json.substr(i);
    if (rest[0] != '\\') {
      length = std::max<size_t>(utf8_length(json, i), 1);
      if (utf8_length(json, i) == 0)
        stand_in(rest[0]);
      else
        out += rest.substr(0, length);
      continue;
    }
    // Only a half without its other half is no character, and is kept as stand-ins.
    const auto first = escaped(rest);
    const auto second = first && is_high(*first) ? escaped(rest.substr(6)) : std::nullopt;
    const bool pair = second && is_low(*second);
    length = pair ? 12 : first ? 6 : 2;
    if (!first || pair || (!is_high(*first) && !is_low(*first))) {
      out += rest.substr(0, length);
      continue;
    }
    std::string half;
    append_utf8(half, *first);
    std::for_each(half.begin(), half.end(), stand_in);
  }
  return out;
}

std::string rejoined(std::string_view text) {
  std::string bytes, out;
  for (size_t i = 0, length; i < text.size(); i += length) {
    const char32_t c = text[i] == '\xF4' ? first_character(text.substr(i)).code : 0;
    length = c >= kStandIns ? 4 : 1;
    bytes += c >= kStandIns ? static_cast<char>(c - kStandIns) : text[i];
  }
  for (size_t i = 0, length; i < bytes.size(); i += length) {
    const uint32_t first = surrogate_at(bytes, i), second = surrogate_at(bytes, i + 3);
    const bool pair = is_high(first) && is_low(second);
    length = pair ? 6 : first != 0 ? 3 : 1;
    if (pair)
      append_utf8(out, 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00));
    else if (first != 0)
      out += kReplacement;
    else
      out += bytes[i];
  }
  return valid_utf8(out, kReplacement);
}

}  // namespace autoresearch
