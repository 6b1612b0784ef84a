#include "task/tokenizer.h"

#include <fmt/format.h>
#include <openssl/evp.h>  // base64

#include <cstring>
#include <deque>
#include <future>
#include <mutex>

#include "common/error.h"
#include "task/bpe_counts.h"
#include "task/bpe_encoder.h"
#include "task/bpe_merges.h"
#include "task/unicode.h"

namespace autoresearch {
namespace {

constexpr size_t kBatchBytes = 2 << 20;    // of text that one thread counts the pieces of at a time
constexpr size_t kMostPieces = 256 << 20;  // bytes that distinct ones take
constexpr int kBatchesAtOnce = 32;         // before it is looked how many these are

// At most `count` characters of `text`, and how many they are. A byte that is not UTF-8 counts as
// one.
std::string_view first_characters(std::string_view text, int64_t count, int64_t& taken) {
  const char *at = text.data(), *const end = at + text.size();
  for (taken = 0; taken < count && at != end;) {
    uint64_t word = UINT64_MAX;
    if (end - at >= 8 && count - taken >= 8) std::memcpy(&word, at, 8);
    if ((word & 0x8080808080808080u) == 0) {
      at += 8;
      taken += 8;
      continue;
    }
    const ClassedCharacter character = character_at(at, end);
    at += character.kind == kInvalid ? 1 : character.length;
    ++taken;
  }
  return {text.data(), at};
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
  explicit Impl(std::vector<std::string> list) : tokens(std::move(list)), encoder(tokens) {}

  BpeEncoder::ScratchPointer borrow() {
    const std::lock_guard lock(mutex);
    if (idle.empty()) return BpeEncoder::make_scratch();
    BpeEncoder::ScratchPointer scratch = std::move(idle.back());
    idle.pop_back();
    return scratch;
  }
  void give_back(BpeEncoder::ScratchPointer scratch) {
    const std::lock_guard lock(mutex);
    idle.push_back(std::move(scratch));
  }

  std::vector<std::string> tokens;  // by rank, without the special ones
  BpeEncoder encoder;
  std::mutex mutex;
  std::vector<BpeEncoder::ScratchPointer> idle;  // what encoding threads need is lent from here
};

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::train(const std::function<bool(std::string&)>& next, int64_t vocab_size,
                           int64_t workers, const std::function<void(int64_t)>& merged) {
  check(vocab_size >= kMinVocab && vocab_size <= kMaxVocab,
        fmt::format("a vocabulary of {} tokens is not possible; use --vocab {} to {}", vocab_size,
                    kMinVocab, kMaxVocab));
  PieceCounts counts;
  std::deque<std::future<void>> running;  // each counts a batch; they are joined when they go
  int64_t characters = 0;
  int batches = 0;
  for (bool more = true; more;) {
    std::vector<std::string> batch;
    for (size_t bytes = 0; more && bytes < kBatchBytes;) {
      std::string document;
      more = next(document);
      if (!more) break;
      int64_t taken;
      document.resize(first_characters(document, kDocumentCharacters, taken).size());
      document.shrink_to_fit();  // the batch must not hold what was cropped
      bytes += document.size();
      batch.push_back(std::move(document));
      characters += taken;
      more = characters < kTrainingCharacters;
    }
    if (static_cast<int64_t>(running.size()) >= workers) {
      running.front().get();
      running.pop_front();
    }
    running.push_back(std::async(
        std::launch::async, [&counts, documents = std::move(batch)] { counts.add(documents); }));
    if (!more || ++batches % kBatchesAtOnce == 0) {  // at places that no clock decides
      for (std::future<void>& batch : running) batch.get();
      running.clear();
      more = more && counts.memory() < kMostPieces;
    }
  }
  return Tokenizer(std::make_unique<Impl>(
      learn_merges(counts, static_cast<size_t>(vocab_size - kSpecialTokens), merged)));
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
    return Error(fmt::format("{} is damaged at line {}; prepare the task again with --force",
                             tiktoken_file.native(), tokens.size() + 1));
  };
  for (std::string_view rest = text; !rest.empty();) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    const size_t space = line.find(' ');
    if (line.size() == rest.size() || space == std::string_view::npos) throw damaged();
    std::string bytes = from_base64(line.substr(0, space));
    if (bytes.empty() || line.substr(space + 1) != std::to_string(tokens.size())) throw damaged();
    // The encoder takes a byte for its own rank.
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
    text += fmt::format("{} {}\n", to_base64(impl_->tokens[i]), i);
  }
  write_file(tiktoken_file, text);
}

int64_t Tokenizer::vocab_size() const { return bos() + kSpecialTokens; }

int64_t Tokenizer::bos() const { return static_cast<int64_t>(impl_->tokens.size()); }

void Tokenizer::encode(std::string_view text, std::vector<uint16_t>& ids) const {
  BpeEncoder::ScratchPointer scratch = impl_->borrow();
  impl_->encoder.encode(text, *scratch, ids);
  impl_->give_back(std::move(scratch));
}

std::string Tokenizer::decode(const std::vector<uint16_t>& ids) const {
  std::string text;
  for (const uint16_t id : ids) text += token(id);
  return text;
}

std::string_view Tokenizer::token(int64_t id) const {
  if (id < 0 || id >= vocab_size()) {
    throw Error(fmt::format("token id {} is out of range; this vocabulary has ids 0 to {}", id,
                            vocab_size() - 1));
  }
  return id < bos() ? std::string_view(impl_->tokens[static_cast<size_t>(id)]) : std::string_view();
}

int64_t Tokenizer::token_bytes(int64_t id) const { return static_cast<int64_t>(token(id).size()); }

int64_t Tokenizer::token_bytes_upstream(int64_t id) const {
  const std::string_view bytes = token(id);
  const char *at = bytes.data(), *const end = at + bytes.size();
  int64_t count = 0;
  while (at != end) {
    const ClassedCharacter character = character_at(at, end);
    count += character.kind == kInvalid ? 3 : character.length;  // U+FFFD takes three bytes
    at += character.length;
  }
  return count;
}

}  // namespace autoresearch
