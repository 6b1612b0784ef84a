#include "agent/edit/nearest_lines.h"

#include <algorithm>
#include <cctype>
#include <cstdint>

namespace autoresearch {
namespace {

constexpr size_t kPassage = 60, kShown = 60, kAround = 2;  // lines
constexpr size_t kLineBytes = 240;                         // of a line that are looked at
constexpr double kAlike = 0.5;  // similarity from which on two lines rather match than not
constexpr double kSkipInFile = 0.02, kSkipInPassage = 0.1;  // what one unmatched line costs

// Sorted pairs of neighbouring characters, blanks left out: what the similarity of lines counts.
std::vector<uint16_t> bigrams(const std::string& line) {
  std::string text;
  for (const char c : line.substr(0, kLineBytes)) {
    if (!std::isspace(static_cast<unsigned char>(c))) text += c;
  }
  if (text.size() == 1) text += text;  // so that a line with one bracket equals another one
  std::vector<uint16_t> pairs;
  for (size_t i = 0; i + 1 < text.size(); ++i) {
    pairs.push_back(static_cast<uint16_t>(static_cast<uint8_t>(text[i]) << 8 |
                                          static_cast<uint8_t>(text[i + 1])));
  }
  std::sort(pairs.begin(), pairs.end());
  return pairs;
}

// Dice's coefficient: 1 for equal lines, 0 for lines with nothing in common. A line of one or two
// characters, which stands everywhere, says little.
double similarity(const std::vector<uint16_t>& a, const std::vector<uint16_t>& b) {
  if (a.empty() || b.empty()) return kAlike;  // a blank line says nothing, for or against
  size_t common = 0;
  for (size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    common += a[i] == b[j];
    const bool step_a = a[i] <= b[j], step_b = b[j] <= a[i];
    i += step_a;
    j += step_b;
  }
  const double dice = 2.0 * static_cast<double>(common) / static_cast<double>(a.size() + b.size());
  return a.size() == 1 || b.size() == 1 ? kAlike + (dice == 1 ? 0.05 : -0.25) : dice;
}

// The best alignment that ends at a line of the file, and where it began.
struct Cell {
  double score = 0;
  size_t file_first = 0, passage_first = 0;
};

}  // namespace

LineRange nearest_lines(const std::vector<std::string>& file,
                        const std::vector<std::string>& passage) {
  std::vector<std::vector<uint16_t>> have;
  for (const std::string& line : file) have.push_back(bigrams(line));
  const size_t rows = std::min(passage.size(), kPassage);
  std::vector<Cell> above(file.size() + 1), row(file.size() + 1);
  Cell best;
  size_t best_file = 0, best_passage = 0;
  for (size_t i = 0; i < rows; ++i) {
    const std::vector<uint16_t> want = bigrams(passage[i]);
    row[0] = {};
    for (size_t j = 0; j < file.size(); ++j) {
      Cell cell = above[j].score > 0 ? above[j] : Cell{0, j, i};
      cell.score += similarity(want, have[j]) - kAlike;
      Cell not_in_passage = row[j], not_in_file = above[j + 1];
      not_in_passage.score -= kSkipInFile;
      not_in_file.score -= kSkipInPassage;
      for (const Cell& skipped : {not_in_passage, not_in_file}) {
        if (skipped.score > cell.score) cell = skipped;
      }
      row[j + 1] = cell.score > 0 ? cell : Cell{};
      if (cell.score > best.score) best = cell, best_file = j, best_passage = i;
    }
    std::swap(above, row);
  }
  if (best.score <= 0) return {};
  // What the passage has before and after the alignment was probably meant to be there as well.
  const size_t before = best.passage_first + kAround, after = rows - best_passage + kAround;
  const size_t first = best.file_first - std::min(best.file_first, before);
  return {first, std::min({file.size(), best_file + after, first + kShown})};
}

double likeness(const std::vector<std::string>& a, const std::vector<std::string>& b) {
  const size_t most = std::max(a.size(), b.size()), least = std::min(a.size(), b.size());
  size_t head = 0, tail = 0;
  while (head < least && a[head] == b[head]) ++head;
  while (head + tail < least && a[a.size() - 1 - tail] == b[b.size() - 1 - tail]) ++tail;
  return most == 0 ? 0 : static_cast<double>(head + tail) / static_cast<double>(most);
}

}  // namespace autoresearch
