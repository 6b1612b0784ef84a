// What reading a corpus met that its maker should know of: counted by kind, with the first places.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <string>

#include "common/error.h"

namespace autoresearch {

// Whether so many bad lines of JSON are too many: a writer's slip in a large corpus is no reason to
// throw hours of work away, but more than one line in a thousand is another kind of file.
bool too_many_bad_lines(int64_t bad, int64_t lines);

// For several threads at once. What it says does not depend on their order.
class Findings {
 public:
  // One more of a kind, such as "converted from UTF-16", at a place such as "a.txt".
  void note(const std::string& kind, const std::string& place);

  // One more file that a folder leaves out, such as ".png".
  void leave_out(const std::string& kind);

  // `lines` more of JSON have been read; how many of them were bad is known by bad_line().
  void count_lines(int64_t lines);
  // `place` is "a.jsonl:3", `reason` goes on from there: "is no JSON".
  void bad_line(const std::string& place, const std::string& reason);

  // Throws Error if too many lines were bad, naming the first place and its reason.
  void check_lines() const;
  // That Error, of `bad` lines among `lines`.
  Error bad_lines(int64_t bad, int64_t lines) const;

  // "40 .png, 3 .json" between the two; empty if folders leave nothing out.
  std::string left_out(const std::string& before, const std::string& behind) const;

  // What was found, a line each; empty if there is nothing to say.
  std::string report() const;

 private:
  struct Kind {
    int64_t count = 0;
    std::set<std::string> places;  // the first few, sorted
  };
  void add(Kind& kind, const std::string& place);

  mutable std::mutex mutex_;
  std::map<std::string, Kind> notes_;
  std::map<std::string, int64_t> left_out_;
  Kind bad_;
  int64_t lines_ = 0;
};

}  // namespace autoresearch
