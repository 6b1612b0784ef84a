// How a streamed answer is cut into events: server-sent events (the WHATWG HTML standard, section
// 9.2) and newline-delimited JSON; and how a character that was cut in two between events becomes
// whole again. Pure: bytes in, events out, whatever the bytes are.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace autoresearch {

// Cuts bytes that arrive in pieces into lines: LF, CR LF, or (`lone_cr`) CR alone ends one.
class LineCutter {
 public:
  explicit LineCutter(bool lone_cr) : lone_cr_(lone_cr) {}
  void feed(std::string_view bytes, const std::function<void(std::string_view)>& on_line);
  // The last line, where the bytes ended without a line end.
  void finish(const std::function<void(std::string_view)>& on_line);

 private:
  bool lone_cr_;
  bool after_cr_ = false;  // an LF that comes next belongs to the line that has ended
  std::string line_;
};

// Server-sent events. Comments (": keep-alive") and events without data are passed over; `id` and
// `retry` mean nothing here. An event that the end of the stream cut off is still handed on: some
// servers leave out the last blank line.
class EventCutter {
 public:
  // The data of each event; its lines are joined by '\n'.
  using OnData = std::function<void(const std::string& data)>;
  void feed(std::string_view bytes, const OnData& on_data);
  void finish(const OnData& on_data);

 private:
  void take_line(std::string_view line, const OnData& on_data);

  LineCutter lines_{/*lone_cr=*/true};
  std::string data_;
  bool has_data_ = false;
  bool first_line_ = true;
};

// Half characters. Servers cut a text anywhere, so that one event ends with the first bytes of a
// UTF-8 sequence, or with the first of two escaped surrogates, and the next event begins with the
// rest. No JSON parser takes either. `with_stand_ins` replaces each such half in a JSON text by a
// character of the last private plane, which a parser takes; `rejoined` puts them back together
// in the text that the events gave, and makes U+FFFD of those that have no other half.
std::string with_stand_ins(std::string_view json);
std::string rejoined(std::string_view text);

}  // namespace autoresearch
