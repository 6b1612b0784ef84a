#include "prepare/tokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <openssl/evp.h>  // base64
#include <pcre2.h>

#include <algorithm>
#include <mutex>
#include <queue>
#include <unordered_map>
#include <unordered_set>

#include "common/error.h"

namespace autoresearch {
namespace {

constexpr size_t kMaxCharacters = 10000;  // of a document, for training; as the ancestor has it
constexpr size_t kCachedBytes = 64;       // longer pieces are rare and would fill the cache
constexpr size_t kCachedPieces = 1 << 19;
constexpr uint32_t kNoRank = UINT32_MAX;

// ------------------------------------------------------------------------------------------------
// UTF-8

// The length of what `text` begins with: a whole character (`valid`), or bytes that can't be one.
// The latter is what a decoder replaces by a single U+FFFD (Unicode 15, 3.9, "maximal subpart").
size_t utf8_step(std::string_view text, bool& valid) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  valid = lead < 0x80;
  if (lead < 0xC2 || lead > 0xF4) return 1;
  const size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte's range excludes overlong forms, surrogates and what is above U+10FFFF.
  unsigned char low = 0x80, high = 0xBF;
  if (lead == 0xE0) low = 0xA0;
  if (lead == 0xED) high = 0x9F;
  if (lead == 0xF0) low = 0x90;
  if (lead == 0xF4) high = 0x8F;
  for (size_t i = 1; i < length; ++i, low = 0x80, high = 0xBF) {
    if (i >= text.size() || byte(i) < low || byte(i) > high) return i;
  }
  valid = true;
  return length;
}

// How many bytes from the start have the same validity as the first character.
size_t utf8_run(std::string_view text, bool& valid) {
  size_t length = utf8_step(text, valid);
  while (length < text.size()) {
    bool next_valid;
    const size_t step = utf8_step(text.substr(length), next_valid);
    if (next_valid != valid) break;
    length += step;
  }
  return length;
}

std::string_view first_characters(std::string_view text, size_t count) {
  for (size_t i = 0; i < text.size(); ++i) {
    const bool starts_character = (static_cast<unsigned char>(text[i]) & 0xC0) != 0x80;
    if (starts_character && count-- == 0) return text.substr(0, i);
  }
  return text;
}

// ------------------------------------------------------------------------------------------------
// Splitting text into pieces

// The ancestor's pattern, with \s and \S spelled out: PCRE2's \s takes in U+180E, which is no white
// space in Unicode, nor for the ancestor's regular expressions.
#define WHITE                                         \
  R"(\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-)" \
  R"(\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})"
constexpr char kPattern[] = R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}|)"
                            " ?[^" WHITE R"(\p{L}\p{N}]++[\r\n]*|)"
                            "[" WHITE R"(]*[\r\n]|)"
                            "[" WHITE "]+(?![^" WHITE "])|[" WHITE "]+";
#undef WHITE

using Code = std::unique_ptr<pcre2_code, decltype(&pcre2_code_free)>;
using MatchData = std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)>;
using Limits = std::unique_ptr<pcre2_match_context, decltype(&pcre2_match_context_free)>;

const pcre2_code* pattern() {
  static const Code code = [] {
    int error = 0;
    size_t offset = 0;
    Code compiled(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(kPattern), PCRE2_ZERO_TERMINATED,
                                PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &error, &offset, nullptr),
                  &pcre2_code_free);
    check(compiled != nullptr, "the split pattern does not compile at " + std::to_string(offset));
    // Where there is no just-in-time compiler, the interpreter does the same, slower.
    pcre2_jit_compile(compiled.get(), PCRE2_JIT_COMPLETE);
    return compiled;
  }();
  return code.get();
}

// Cuts text into pieces; one per thread. Bytes that are not UTF-8 become pieces of their own, since
// the pattern speaks of characters only.
class Splitter {
 public:
  Splitter()
      : match_(pcre2_match_data_create(1, nullptr), &pcre2_match_data_free),
        limits_(pcre2_match_context_create(nullptr), &pcre2_match_context_free) {
    // A megabyte of white space takes as many steps back, all of them wanted.
    pcre2_set_match_limit(limits_.get(), UINT32_MAX);
    pcre2_set_heap_limit(limits_.get(), UINT32_MAX);
  }

  template <typename OnPiece>
  void operator()(std::string_view text, OnPiece on_piece) {
    while (!text.empty()) {
      bool valid;
      const std::string_view run = text.substr(0, utf8_run(text, valid));
      if (valid) {
        for (size_t at = 0; at < run.size();) {
          const size_t length = match(run, at);
          on_piece(run.substr(at, length));
          at += length;
        }
      } else {
        on_piece(run);
      }
      text.remove_prefix(run.size());
    }
  }

 private:
  // The length of the piece at `at`: never 0, as every character is a letter, a digit, white space
  // or something else, and each of these has its alternative.
  size_t match(std::string_view text, size_t at) {
    const int count = pcre2_match(pattern(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                                  at, PCRE2_NO_UTF_CHECK, match_.get(), limits_.get());
    check(count > 0, "PCRE2 failed with code " + std::to_string(count) + " while splitting text");
    return pcre2_get_ovector_pointer(match_.get())[1] - at;
  }

  MatchData match_;
  Limits limits_;
};

// ------------------------------------------------------------------------------------------------
// Training: incremental byte-pair encoding, with the order of rustbpe

struct StringHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
};
using PieceCounts = std::unordered_map<std::string, int64_t, StringHash, std::equal_to<>>;

using Pair = std::pair<uint32_t, uint32_t>;
struct PairHash {
  size_t operator()(const Pair& pair) const {
    return std::hash<uint64_t>()((uint64_t{pair.first} << 32 | pair.second) * 0x9E3779B97F4A7C15u);
  }
};

struct Word {
  std::vector<uint32_t> ids;
  int64_t count;
};

// Where a pair of adjacent ids occurs, and how often in all.
struct Occurrences {
  int64_t count = 0;
  std::vector<uint32_t> words;  // in ascending order; some may hold the pair no longer
};

class PairTable {
 public:
  explicit PairTable(std::vector<Word> words) : words_(std::move(words)) {
    for (uint32_t w = 0; w < words_.size(); ++w) {
      const std::vector<uint32_t>& ids = words_[w].ids;
      for (size_t i = 0; i + 1 < ids.size(); ++i) add({ids[i], ids[i + 1]}, w, words_[w].count);
    }
    for (const auto& [pair, found] : pairs_) heap_.push({found.count, pair});
  }

  // The most frequent pair, ties to the smaller; false when there is none. Counts in the heap are
  // those at the time of pushing: they only fall, so a stale one is pushed again when it surfaces.
  bool pop(Pair& best) {
    while (!heap_.empty()) {
      const auto [count, pair] = heap_.top();
      heap_.pop();
      const int64_t now = pairs_[pair].count;
      if (now == count && now > 0) {
        best = pair;
        return true;
      }
      if (now > 0) heap_.push({now, pair});
    }
    return false;
  }

  // Replaces `pair` by `id` everywhere, from left to right, and keeps the counts true.
  void merge(Pair pair, uint32_t id) {
    const std::vector<uint32_t> words = std::move(pairs_[pair].words);
    for (const uint32_t w : words) merge_in_word(w, pair, id);
    pairs_.erase(pair);
    for (const Pair& fresh : fresh_) heap_.push({pairs_[fresh].count, fresh});
    fresh_.clear();
  }

 private:
  struct Candidate {
    int64_t count;
    Pair pair;
    bool operator<(const Candidate& other) const {
      return count != other.count ? count < other.count : pair > other.pair;
    }
  };

  void add(Pair pair, uint32_t word, int64_t count) {
    Occurrences& found = pairs_[pair];
    found.count += count;
    if (found.words.empty() || found.words.back() != word) found.words.push_back(word);
  }

  void add_fresh(Pair pair, uint32_t word, int64_t count) {
    fresh_.insert(pair);
    add(pair, word, count);
  }

  void merge_in_word(uint32_t w, Pair pair, uint32_t id) {
    auto& [ids, count] = words_[w];
    size_t out = 0;
    for (size_t i = 0; i < ids.size();) {
      if (i + 1 == ids.size() || ids[i] != pair.first || ids[i + 1] != pair.second) {
        ids[out++] = ids[i++];
        continue;
      }
      if (out > 0) {
        pairs_[{ids[out - 1], pair.first}].count -= count;
        add_fresh({ids[out - 1], id}, w, count);
      }
      pairs_[pair].count -= count;
      if (i + 2 < ids.size()) {
        pairs_[{pair.second, ids[i + 2]}].count -= count;
        add_fresh({id, ids[i + 2]}, w, count);
      }
      ids[out++] = id;
      i += 2;
    }
    ids.resize(out);
  }

  std::vector<Word> words_;
  std::unordered_map<Pair, Occurrences, PairHash> pairs_;
  std::unordered_set<Pair, PairHash> fresh_;  // pairs that the merge under way has made
  std::priority_queue<Candidate> heap_;
};

std::vector<Word> to_words(const PieceCounts& counts) {
  std::vector<Word> words;
  for (const auto& [piece, count] : counts) {
    if (piece.size() < 2) continue;
    Word word{{}, count};
    for (const char c : piece) word.ids.push_back(static_cast<unsigned char>(c));
    words.push_back(std::move(word));
  }
  return words;
}

// ------------------------------------------------------------------------------------------------
// The file: base64, space, rank

std::string to_base64(std::string_view bytes) {
  std::string text(4 * ((bytes.size() + 2) / 3) + 1, '\0');
  const int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                                   reinterpret_cast<const unsigned char*>(bytes.data()),
                                   static_cast<int>(bytes.size()));
  text.resize(static_cast<size_t>(size));
  return text;
}

// Empty when `text` is no base64.
std::string from_base64(std::string_view text) {
  std::string bytes(text.size() / 4 * 3, '\0');
  const int size = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                                   reinterpret_cast<const unsigned char*>(text.data()),
                                   static_cast<int>(text.size()));
  const size_t padding = text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0;
  if (size < 0 || static_cast<size_t>(size) < padding) return "";
  bytes.resize(static_cast<size_t>(size) - padding);
  return bytes;
}

}  // namespace

// ------------------------------------------------------------------------------------------------
// Tokenizer

struct Tokenizer::Impl {
  std::vector<std::string> tokens;  // by rank, without the special ones
  std::unordered_map<std::string_view, uint32_t> ranks;

  // What one encoding thread needs. It is lent from a pool, so that encode() is thread-safe and the
  // cache outlives the call.
  struct Scratch {
    Splitter split;
    std::unordered_map<std::string, std::vector<uint16_t>, StringHash, std::equal_to<>> cache;
  };
  std::mutex mutex;
  std::vector<std::unique_ptr<Scratch>> idle;

  explicit Impl(std::vector<std::string> list) : tokens(std::move(list)) {
    // Two merges may spell the same bytes; the first is then the one that encoding uses.
    for (size_t i = 0; i < tokens.size(); ++i) ranks.emplace(tokens[i], static_cast<uint32_t>(i));
  }

  uint32_t rank(std::string_view bytes) const {
    const auto found = ranks.find(bytes);
    return found == ranks.end() ? kNoRank : found->second;
  }

  void merge_piece(std::string_view piece, std::vector<uint16_t>& ids) const;
  void encode_piece(std::string_view piece, Scratch& scratch, std::vector<uint16_t>& ids) const;

  std::unique_ptr<Scratch> borrow() {
    const std::lock_guard lock(mutex);
    if (idle.empty()) return std::make_unique<Scratch>();
    std::unique_ptr<Scratch> scratch = std::move(idle.back());
    idle.pop_back();
    return scratch;
  }
  void give_back(std::unique_ptr<Scratch> scratch) {
    const std::lock_guard lock(mutex);
    idle.push_back(std::move(scratch));
  }
};

// Merges the adjacent parts whose joined bytes have the lowest rank, the leftmost on ties, until no
// two make a token. A part is named by the offset of its first byte.
void Tokenizer::Impl::merge_piece(std::string_view piece, std::vector<uint16_t>& ids) const {
  const uint32_t n = static_cast<uint32_t>(piece.size());
  std::vector<uint32_t> next(n + 1), previous(n + 1);  // of the parts that are left
  std::vector<uint32_t> wanted(n + 1, kNoRank);        // rank of a part joined with its next
  for (uint32_t i = 0; i <= n; ++i) next[i] = i + 1, previous[i] = i - 1;
  using Candidate = std::pair<uint32_t, uint32_t>;  // rank, part
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> heap;
  const auto offer = [&](uint32_t part) {
    const uint32_t right = next[part];
    wanted[part] = right >= n ? kNoRank : rank(piece.substr(part, next[right] - part));
    if (wanted[part] != kNoRank) heap.emplace(wanted[part], part);
  };
  for (uint32_t i = 0; i < n; ++i) offer(i);
  while (!heap.empty()) {
    const auto [lowest, part] = heap.top();
    heap.pop();
    if (wanted[part] != lowest) continue;  // the part, or its next, has changed since
    const uint32_t right = next[part];
    wanted[right] = kNoRank;
    next[part] = next[right];
    previous[next[right]] = part;
    offer(part);
    if (part > 0) offer(previous[part]);
  }
  for (uint32_t i = 0; i < n; i = next[i]) {
    ids.push_back(static_cast<uint16_t>(rank(piece.substr(i, next[i] - i))));
  }
}

void Tokenizer::Impl::encode_piece(std::string_view piece, Scratch& scratch,
                                   std::vector<uint16_t>& ids) const {
  if (const uint32_t whole = rank(piece); whole != kNoRank) {
    ids.push_back(static_cast<uint16_t>(whole));
    return;
  }
  if (piece.size() > kCachedBytes) return merge_piece(piece, ids);
  auto found = scratch.cache.find(piece);
  if (found == scratch.cache.end()) {
    if (scratch.cache.size() >= kCachedPieces) scratch.cache.clear();
    found = scratch.cache.try_emplace(std::string(piece)).first;
    merge_piece(piece, found->second);
  }
  ids.insert(ids.end(), found->second.begin(), found->second.end());
}

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::train(const std::vector<std::string>& documents, int64_t vocab_size) {
  size_t i = 0;
  const auto next = [&](std::string& document) {
    if (i == documents.size()) return false;
    document = documents[i++];
    return true;
  };
  return train(next, vocab_size);
}

Tokenizer Tokenizer::train(const std::function<bool(std::string&)>& next, int64_t vocab_size,
                           const std::function<void(int64_t)>& merged) {
  check(vocab_size >= kMinVocab && vocab_size <= kMaxVocab,
        "a vocabulary of " + std::to_string(vocab_size) + " tokens is not possible; use --vocab " +
            std::to_string(kMinVocab) + " to " + std::to_string(kMaxVocab));
  PieceCounts counts;
  Splitter split;
  for (std::string document; next(document);) {
    split(first_characters(document, kMaxCharacters), [&](std::string_view piece) {
      const auto found = counts.find(piece);
      found == counts.end() ? void(counts.emplace(piece, 1)) : void(++found->second);
    });
  }
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
  PairTable table(to_words(counts));
  Pair pair;
  while (static_cast<int64_t>(tokens.size()) < vocab_size - kSpecialTokens && table.pop(pair)) {
    table.merge(pair, static_cast<uint32_t>(tokens.size()));
    tokens.push_back(tokens[pair.first] + tokens[pair.second]);
    if (merged) merged(static_cast<int64_t>(tokens.size()) - 256);
  }
  return Tokenizer(std::make_unique<Impl>(std::move(tokens)));
}

Tokenizer Tokenizer::load(const fs::path& tiktoken_file) {
  std::string text;
  try {
    text = read_file(tiktoken_file);
  } catch (const Error& e) {
    throw Error(std::string(e.what()) + "; prepare the task again with --force");
  }
  std::vector<std::string> tokens;
  const auto damaged = [&] {
    return Error(tiktoken_file.string() + " is damaged at line " +
                 std::to_string(tokens.size() + 1) + "; prepare the task again with --force");
  };
  for (std::string_view rest = text; !rest.empty();) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    const size_t space = line.find(' ');
    if (line.size() == rest.size() || space == std::string_view::npos) throw damaged();
    std::string bytes = from_base64(line.substr(0, space));
    if (bytes.empty() || line.substr(space + 1) != std::to_string(tokens.size())) throw damaged();
    if (tokens.size() < 256 && bytes != std::string(1, static_cast<char>(tokens.size()))) {
      throw damaged();
    }
    tokens.push_back(std::move(bytes));
    rest.remove_prefix(line.size() + 1);
  }
  const int64_t size = static_cast<int64_t>(tokens.size()) + kSpecialTokens;
  if (size < kMinVocab || size > kMaxVocab) throw damaged();
  return Tokenizer(std::make_unique<Impl>(std::move(tokens)));
}

void Tokenizer::save(const fs::path& tiktoken_file) const {
  std::string text;
  for (size_t i = 0; i < impl_->tokens.size(); ++i) {
    text += to_base64(impl_->tokens[i]) + ' ' + std::to_string(i) + '\n';
  }
  write_file(tiktoken_file, text);
}

int64_t Tokenizer::vocab_size() const { return bos() + kSpecialTokens; }

int64_t Tokenizer::bos() const { return static_cast<int64_t>(impl_->tokens.size()); }

void Tokenizer::encode(std::string_view text, std::vector<uint16_t>& ids) const {
  std::unique_ptr<Impl::Scratch> scratch = impl_->borrow();
  scratch->split(text, [&](std::string_view piece) { impl_->encode_piece(piece, *scratch, ids); });
  impl_->give_back(std::move(scratch));
}

std::string Tokenizer::decode(const std::vector<uint16_t>& ids) const {
  std::string text;
  for (const uint16_t id : ids) text += token(id);
  return text;
}

std::string_view Tokenizer::token(int64_t id) const {
  if (id < 0 || id >= vocab_size()) {
    throw Error("token id " + std::to_string(id) +
                " is out of range; this vocabulary has ids 0 to " +
                std::to_string(vocab_size() - 1));
  }
  return id < bos() ? std::string_view(impl_->tokens[static_cast<size_t>(id)]) : std::string_view();
}

int64_t Tokenizer::token_bytes(int64_t id) const { return static_cast<int64_t>(token(id).size()); }

int64_t Tokenizer::token_bytes_upstream(int64_t id) const {
  int64_t bytes = 0;
  for (std::string_view rest = token(id); !rest.empty();) {
    bool valid;
    const size_t step = utf8_step(rest, valid);
    bytes += valid ? static_cast<int64_t>(step) : 3;  // U+FFFD takes three bytes
    rest.remove_prefix(step);
  }
  return bytes;
}

std::vector<std::string_view> Tokenizer::split(std::string_view text) {
  std::vector<std::string_view> pieces;
  Splitter()(text, [&](std::string_view piece) { pieces.push_back(piece); });
  return pieces;
}

}  // namespace autoresearch
