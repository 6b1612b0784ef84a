#include "referee/sealed_file.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <string_view>

#include "referee/refusal.h"

// There is no C++ safetensors library in Debian or on PyPI; the format is this simple: 8 bytes of
// header size, a JSON header, the tensors' bytes.

namespace autoresearch {
namespace {

using nlohmann::json;

// The tensor bytes are copied as they lie in memory, and safetensors is little-endian.
static_assert(std::endian::native == std::endian::little);

constexpr char kFormat[] = "autoresearch-sealed-1";
constexpr size_t kMaxHeader = 32 << 20;  // the graph, escaped, and an entry for every tensor
constexpr int kMaxJsonDepth = 3;         // header, entry, shape

const std::map<std::string, at::ScalarType>& dtypes() {
  static const std::map<std::string, at::ScalarType> names = {
      {"F32", at::kFloat}, {"F16", at::kHalf}, {"BF16", at::kBFloat16}, {"F64", at::kDouble},
      {"I64", at::kLong},  {"I32", at::kInt},  {"U8", at::kByte},       {"BOOL", at::kBool}};
  return names;
}

}  // namespace

std::string dtype_name(const at::Tensor& tensor) {
  for (const auto& [name, type] : dtypes())
    if (tensor.scalar_type() == type && tensor.layout() == at::kStrided) return name;
  refuse(
      std::string("the model holds a constant of type ") + at::toString(tensor.scalar_type()) +
      "; a sealed model holds float32, float16, bfloat16, float64, int64, int32, uint8 and bool");
}

void save_sealed(const SealedModel& model, const fs::path& path) {
  json header = {{"__metadata__",
                  {{"format", kFormat},
                   {"graph", model.graph},
                   {"rows", std::to_string(model.rows)},
                   {"seq_len", std::to_string(model.seq_len)},
                   {"vocab_size", std::to_string(model.vocab_size)},
                   {"device", model.device.is_cuda() ? "cuda" : "cpu"}}}};
  size_t offset = 0;
  for (size_t i = 0; i < model.tensors.size(); i++) {
    const at::Tensor& t = model.tensors[i];
    header["c" + std::to_string(i)] = {{"dtype", dtype_name(t)},
                                       {"shape", t.sizes().vec()},
                                       {"data_offsets", {offset, offset + t.nbytes()}}};
    offset += t.nbytes();
  }
  std::string text = header.dump();
  // The format of safetensors begins the data at a multiple of eight bytes.
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t size = text.size();
  std::string bytes(reinterpret_cast<const char*>(&size), sizeof size);
  bytes.reserve(sizeof size + size + offset);
  bytes += text;
  for (const at::Tensor& t : model.tensors) {
    const at::Tensor data = t.to(at::kCPU).contiguous();
    bytes.append(static_cast<const char*>(data.const_data_ptr()), data.nbytes());
  }
  write_file(path, bytes);
}

namespace {

struct Entry {
  at::ScalarType dtype;
  std::vector<int64_t> shape;
  size_t begin, end;
};

// All numbers of a hostile header pass through here: a whole number in [0, limit].
int64_t number(const json& value, int64_t limit) {
  const bool whole = value.is_number_unsigned() && value.get<uint64_t>() <= uint64_t(limit);
  if (!whole) throw std::runtime_error("a number is out of range");
  return value.get<int64_t>();
}

int64_t metadata_number(const json& metadata, const char* key, int64_t limit) {
  const std::string text = metadata.at(key);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  if (!whole || value < 1 || value > limit)
    throw std::runtime_error(std::string(key) + " is out of range");
  return value;
}

Entry parse_entry(const json& entry, size_t data_size) {
  const auto dtype = dtypes().find(entry.at("dtype").get<std::string>());
  if (dtype == dtypes().end()) throw std::runtime_error("a tensor has an unknown dtype");
  if (entry.size() != 3) throw std::runtime_error("a tensor has unknown fields");
  Entry result{dtype->second, {}, 0, 0};
  int64_t bytes = int64_t(c10::elementSize(result.dtype));
  for (const json& dimension : entry.at("shape")) {
    result.shape.push_back(number(dimension, int64_t(data_size)));
    if (__builtin_mul_overflow(bytes, result.shape.back(), &bytes))
      throw std::runtime_error("a tensor is too large");
  }
  const json& offsets = entry.at("data_offsets");
  if (offsets.size() != 2 || result.shape.size() > 16)
    throw std::runtime_error("a bad tensor entry");
  result.begin = size_t(number(offsets.at(0), int64_t(data_size)));
  result.end = size_t(number(offsets.at(1), int64_t(data_size)));
  if (result.end < result.begin || result.end - result.begin != size_t(bytes))
    throw std::runtime_error("a tensor's shape and its bytes don't agree");
  return result;
}

json parse_header(std::string_view text) {
  return json::parse(text, [](int depth, json::parse_event_t, json&) {
    if (depth > kMaxJsonDepth) throw std::runtime_error("the header is nested too deeply");
    return true;
  });
}

// c0, c1, ... and nothing else; the tensors fill the data without a hole or an overlap.
std::vector<Entry> parse_entries(const json& header, size_t data_size) {
  if (header.size() - 1 > kMaxTensors) throw std::runtime_error("there are too many tensors");
  std::vector<Entry> entries;
  for (size_t i = 0; i + 1 < header.size(); i++)
    entries.push_back(parse_entry(header.at("c" + std::to_string(i)), data_size));
  std::vector<std::pair<size_t, size_t>> ranges;
  for (const Entry& entry : entries) ranges.emplace_back(entry.begin, entry.end);
  std::sort(ranges.begin(), ranges.end());
  size_t end = 0;
  for (const auto& [begin, next] : ranges) {
    if (begin != end) throw std::runtime_error("the tensors overlap or leave a hole");
    end = next;
  }
  if (end != data_size) throw std::runtime_error("the file is longer or shorter than its tensors");
  return entries;
}

at::Tensor read_tensor(const Entry& entry, std::string_view data, at::Device device) {
  const std::string_view bytes = data.substr(entry.begin, entry.end - entry.begin);
  const bool bad_bool = entry.dtype == at::kBool &&
                        std::any_of(bytes.begin(), bytes.end(), [](char b) { return b & ~1; });
  if (bad_bool) throw std::runtime_error("a bool is neither 0 nor 1");
  at::Tensor tensor = at::empty(entry.shape, entry.dtype);
  if (!bytes.empty()) std::memcpy(tensor.mutable_data_ptr(), bytes.data(), bytes.size());
  return tensor.to(device);
}

// The header of a file, which is left with the data that follows.
json take_header(std::string_view& file) {
  uint64_t size = 0;
  if (file.size() < sizeof size) throw std::runtime_error("it is too short");
  std::memcpy(&size, file.data(), sizeof size);
  file.remove_prefix(sizeof size);
  if (size > std::min(file.size(), kMaxHeader)) throw std::runtime_error("its header is too large");
  const std::string_view text = file.substr(0, size);
  file.remove_prefix(size);
  return parse_header(text);
}

bool is_of_cuda(const json& metadata) {
  if (metadata.at("format") != kFormat) throw std::runtime_error("it is of another format");
  return metadata.at("device") == "cuda";
}

SealedModel parse_file(std::string_view data, at::Device device) {
  const json header = take_header(data);
  const json& metadata = header.at("__metadata__");
  const bool of_cuda = is_of_cuda(metadata);
  SealedModel model;
  model.graph = metadata.at("graph");
  model.rows = metadata_number(metadata, "rows", 1 << 20);
  model.seq_len = metadata_number(metadata, "seq_len", 1 << 20);
  model.vocab_size = metadata_number(metadata, "vocab_size", 1 << 20);
  model.device = device;
  if (of_cuda != device.is_cuda())
    throw std::runtime_error(std::string("it was sealed for another device: type --device ") +
                             (of_cuda ? "cuda" : "cpu"));
  for (const Entry& entry : parse_entries(header, data.size()))
    model.tensors.push_back(read_tensor(entry, data, device));
  return model;
}

}  // namespace

SealedModel parse_sealed(std::string_view bytes, const std::string& name, at::Device device) try {
  const at::NoGradGuard no_grad;
  return parse_file(bytes, device);
} catch (const c10::OutOfMemoryError&) {
  throw;
} catch (const std::exception& e) {
  throw Error(name + " is not a sealed model: " + first_line(e) +
              "; build/train --seal writes one");
}

SealedModel load_sealed(const fs::path& path, at::Device device) {
  std::error_code ignored;
  const bool plain = fs::is_regular_file(path, ignored);
  check(plain, path.string() +
                   " is not a sealed model: there is no such file; build/train --seal " +
                   "writes one");
  return parse_sealed(read_file(path), path.string(), device);
}

bool seems_sealed_on_cuda(std::string_view bytes) {
  return bytes.substr(0, kMaxHeader).find(R"("device":"cuda")") != bytes.npos;
}

}  // namespace autoresearch
