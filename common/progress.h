// Progress bars on stderr with rate and time left; nothing is printed where stderr is not a
// terminal.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

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

 private:
  std::string title_, unit_;
  double total_, unit_size_;
  bool visible_, drawn_ = false;
  std::chrono::steady_clock::time_point start_, last_;
};

// Several steps at once, such as downloads: a line for each and a last one for their sum, redrawn
// in place.
class ProgressTable {
 public:
  struct Row {
    std::string title;
    double done = 0;
    double total = 0;  // 0: not known yet
  };

  explicit ProgressTable(std::string unit, double unit_size = 1);
  ~ProgressTable();  // ends the last line, if one was drawn
  ProgressTable(const ProgressTable&) = delete;
  ProgressTable& operator=(const ProgressTable&) = delete;

  bool visible() const { return visible_; }  // stderr is a terminal
  bool due() const;                          // the last drawing is a tenth of a second old
  // Rate and time left are those of `sum`, counted from the first drawing.
  void draw(const std::vector<Row>& rows, const Row& sum);
  void clear();  // so that other lines can be printed; the next drawing comes below them

 private:
  std::string sum_note(const Row& sum);

  std::string unit_;
  double unit_size_;
  bool visible_;
  size_t drawn_ = 0;  // lines on the terminal
  double done_before_ = -1;
  std::chrono::steady_clock::time_point start_, last_;
};

// The table's lines for a terminal of that size, the sum last; rows that don't fit are left out.
std::vector<std::string> table_lines(std::vector<ProgressTable::Row> rows,
                                     const ProgressTable::Row& sum, const std::string& sum_note,
                                     const std::string& unit, double unit_size, size_t columns,
                                     size_t lines);

// "3 s", "4 min 05 s", "2 h 10 min": how programs print a duration for a user.
std::string human_seconds(double seconds);

}  // namespace autoresearch
