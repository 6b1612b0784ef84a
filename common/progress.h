// Progress bars on stderr with rate and time left; nothing is printed where stderr is not a
// terminal.
#pragma once

#include <chrono>
#include <string>

namespace autoresearch {

// One long step. Cheap to update often: it redraws at most ten times a second.
class Progress {
 public:
  // `unit` names what is counted ("MB", "tokens", "s"); values are divided by `unit_size` for
  // print. A total of 0 is not known: only the time is shown.
  Progress(std::string title, double total, std::string unit, double unit_size = 1);
  ~Progress();  // ends the line, if one was drawn
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void update(double done, const std::string& note = "");
  void set_total(double total) { total_ = total; }  // once more is known of it

 private:
  std::string title_, unit_;
  double total_, unit_size_;
  bool visible_, drawn_ = false;
  std::chrono::steady_clock::time_point start_, last_;
};

// "3 s", "4 min 05 s", "2 h 10 min": how programs print a duration for a user.
std::string human_seconds(double seconds);

}  // namespace autoresearch
