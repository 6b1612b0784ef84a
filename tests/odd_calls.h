// Calls of an operator that are a little, or very, unlike a good one.
#pragma once

#include <ATen/ATen.h>
#include <ATen/core/function_schema.h>
#include <ATen/core/stack.h>

#include <cmath>
#include <limits>
#include <random>
#include <string>

namespace autoresearch {

class OddCalls {
 public:
  explicit OddCalls(uint64_t seed) : random_(seed) {}

  // Half of the calls keep what the good one says of sizes, in other sizes.
  torch::jit::Stack like(const c10::FunctionSchema& schema, const torch::jit::Stack& good) {
    torch::jit::Stack call = good;
    if (below(2)) resize_everywhere(call);
    for (int changes = int(below(4)); changes-- > 0 && !call.empty();) {
      const size_t i = below(call.size());
      try {
        change(call[i], *schema.arguments()[i].type());
      } catch (const c10::Error&) {  // two changes that can't both be
      }
    }
    for (c10::IValue& value : call) refill(value);
    return call;
  }

 private:
  size_t below(size_t n) { return std::uniform_int_distribution<size_t>(0, n - 1)(random_); }
  template <typename T>
  T pick(std::initializer_list<T> all) {
    return all.begin()[below(all.size())];
  }

  int64_t size() {
    return pick<int64_t>({0, 1, 1, 2, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64});
  }

  int64_t integer(int64_t now) {
    if (below(3) == 0) return int64_t(uint64_t(now) + uint64_t(pick<int64_t>({-2, -1, 1, 2})));
    return pick<int64_t>({0,
                          1,
                          -1,
                          2,
                          3,
                          -2,
                          -3,
                          4,
                          5,
                          7,
                          8,
                          16,
                          33,
                          45,
                          -8,
                          64,
                          99,
                          100,
                          -100,
                          100'000,
                          INT32_MAX,
                          INT32_MIN,
                          int64_t{1} << 40,
                          int64_t{1} << 62,
                          INT64_MAX,
                          INT64_MIN});
  }

  double number() {
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    return pick<double>(
        {0, 1, -1, 0.5, 2, 3, -7, 100, 1e-30, 1e30, 1e300, kInfinity, -kInfinity, std::nan("")});
  }

  std::string word() {
    return pick<std::string>({"", "none", "tanh", "floor", "trunc", "constant", "reflect",
                              "replicate", "circular", "same", "valid", "btc,cd->bt", "btc,dc->btd",
                              "btt,cd->b", "...c,cd->...d", "abc,de->ae", "x", "btc,cd->btdd"});
  }

  // Another size for all dimensions, and for all integers in lists, that have one size now.
  void resize_everywhere(torch::jit::Stack& call) {
    const int64_t from = pick<int64_t>({2, 3, 4, 8, 16}), to = size();
    const auto resized = [&](at::Tensor tensor) {
      std::vector<int64_t> sizes = tensor.sizes().vec();
      std::replace(sizes.begin(), sizes.end(), from, to);
      return sizes == tensor.sizes() ? tensor : of_sizes(sizes, tensor.scalar_type());
    };
    for (c10::IValue& value : call) {
      if (value.isTensor() && value.toTensor().defined()) value = resized(value.toTensor());
      if (value.isTensorList()) {
        std::vector<at::Tensor> all = value.toTensorVector();
        for (at::Tensor& tensor : all) tensor = resized(tensor);
        value = all;
      }
      if (value.isIntList()) {
        std::vector<int64_t> all = value.toIntVector();
        std::replace(all.begin(), all.end(), from, to);
        value = all;
      }
    }
  }

  void change(c10::IValue& value, const c10::Type& type) {
    if (type.kind() == c10::TypeKind::OptionalType && below(3) == 0) {
      value = value.isNone() ? something(*type.expectRef<c10::OptionalType>().getElementType())
                             : c10::IValue();
    } else if (value.isTensor()) {
      value = changed(value.toTensor());
    } else if (value.isTensorList()) {
      std::vector<at::Tensor> all = value.toTensorVector();
      if (all.empty() || below(4) == 0) all.push_back(something_like({}));
      at::Tensor& one = all[below(all.size())];
      one = changed(one);
      if (below(4) == 0) all.pop_back();
      value = all;
    } else if (value.isIntList()) {
      std::vector<int64_t> all = value.toIntVector();
      if (all.empty() || below(4) == 0) all.push_back(integer(1));
      int64_t& one = all[below(all.size())];
      one = integer(one);
      if (below(4) == 0) all.pop_back();
      value = all;
    } else if (value.isInt()) {
      value = integer(value.toInt());
    } else if (value.isDouble()) {
      value = number();
    } else if (value.isBool()) {
      value = !value.toBool();
    } else if (value.isString()) {
      value = word();
    }
  }

  // A value where the good call has none.
  c10::IValue something(const c10::Type& type) {
    switch (type.kind()) {
      case c10::TypeKind::TensorType:
        return something_like({});
      case c10::TypeKind::IntType:
        return integer(1);
      case c10::TypeKind::FloatType:
        return number();
      case c10::TypeKind::NumberType:
        return below(2) ? c10::IValue(number()) : c10::IValue(integer(1));
      case c10::TypeKind::BoolType:
        return true;
      case c10::TypeKind::ListType:
        return std::vector<int64_t>{integer(1), integer(1)};
      default:
        return {};
    }
  }

  at::ScalarType scalar_type() {
    return pick({at::kFloat, at::kFloat, at::kBFloat16, at::kHalf, at::kDouble, at::kLong, at::kInt,
                 at::kByte, at::kBool, at::kFloat8_e4m3fn});
  }

  at::Tensor something_like(std::vector<int64_t> sizes) {
    while (below(3)) sizes.push_back(size());
    return of_sizes(sizes, scalar_type());
  }

  at::Tensor changed(const at::Tensor& tensor) {
    if (!tensor.defined()) return something_like({});
    std::vector<int64_t> sizes = tensor.sizes().vec();
    const size_t at = sizes.empty() ? 0 : below(sizes.size());
    switch (below(10)) {
      case 0:
        sizes.insert(sizes.begin() + at, size());
        return of_sizes(sizes, tensor.scalar_type());
      case 1:
        return tensor.to(scalar_type());
      case 2:
        return tensor.dim() ? tensor.select(int64_t(at), 0) : tensor;
      default:
        return below(2) || sizes.empty() ? oddly_strided(tensor) : with_size(tensor, at);
    }
  }

  at::Tensor with_size(const at::Tensor& tensor, size_t at) {
    std::vector<int64_t> sizes = tensor.sizes().vec();
    sizes[at] = below(3) ? size() : std::max<int64_t>(0, sizes[at] - 1);
    return of_sizes(sizes, tensor.scalar_type());
  }

  // The same elements, or fewer, in another order; or many by strides of 0; or rows that overlap;
  // or a dimension of one element whose stride leads far beyond the memory.
  at::Tensor oddly_strided(const at::Tensor& tensor) {
    if (tensor.dim() == 0) return tensor.expand({size()});
    const int64_t dim = int64_t(below(size_t(tensor.dim()))), length = tensor.size(dim);
    switch (below(6)) {
      case 0:
        return tensor.transpose(dim, -1);
      case 1:
        return tensor.slice(dim, pick({0, 1}), INT64_MAX, 2);
      case 2:
        return tensor.flip({dim}).transpose(0, dim);
      case 3: {
        std::vector<int64_t> sizes = tensor.sizes().vec();
        sizes.insert(sizes.begin(), pick<int64_t>({2, 5, 1000, 0, int64_t{1} << 40}));
        return tensor.expand(sizes);
      }
      case 4:
        return length < 2 ? tensor : tensor.unfold(dim, length - 1, 1);
      default:
        return length == 0
                   ? tensor
                   : tensor.unfold(dim, length, int64_t{1} << 30).transpose(dim, -1).squeeze(-1);
    }
  }

  static at::Tensor of_sizes(std::vector<int64_t> sizes, at::ScalarType type) {
    int64_t elements = 1;
    for (int64_t& size : sizes) {
      if (elements * size > 20'000) size = 1;
      elements *= std::max<int64_t>(size, 1);
    }
    return at::zeros(sizes, type);
  }

  // Numbers in every element, by the type: small whole ones that may be indices, or odd ones. Never
  // what the memory held, which the test must not see.
  void refill(c10::IValue& value) {
    if (value.isTensor() && value.toTensor().defined()) value = refilled(value.toTensor());
    if (value.isTensorList()) {
      std::vector<at::Tensor> all = value.toTensorVector();
      for (at::Tensor& tensor : all) tensor = refilled(tensor);
      value = all;
    }
  }

  at::Tensor refilled(const at::Tensor& tensor) {
    const bool odd = below(4) == 0;
    const auto bytes = int64_t(tensor.storage().nbytes()) / int64_t(tensor.element_size());
    if (bytes > 100'000) return tensor;  // filled when it was copied, and it takes long
    at::Tensor numbers = at::empty({bytes}, at::kDouble);
    auto* const to = numbers.mutable_data_ptr<double>();
    const bool floating = tensor.is_floating_point();
    for (int64_t i = 0; i < bytes; i++)
      to[i] = floating ? double(int64_t(below(65)) - 32) / 16 : double(below(3));
    if (odd && bytes)
      for (int i = 0; i < 3; i++)
        to[below(size_t(bytes))] = floating ? number() : double(integer(0) % 1'000'000'000);
    const at::Tensor memory = numbers.to(tensor.scalar_type());
    return memory.as_strided(tensor.sizes(), tensor.strides(), tensor.storage_offset());
  }

  std::mt19937_64 random_;
};

}  // namespace autoresearch
