#include "agent/loop/toml_config.h"

#include <toml++/toml.h>

#include <charconv>
#include <string>
#include <vector>

#include "common/error.h"

namespace autoresearch {
namespace {

Error error_at(const toml::source_region& place, const std::string& words) {
  return Error("line " + std::to_string(place.begin.line) + " of the --config file: " + words,
               kUsage);
}

std::string text_of(double number) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, number).ptr};
}

std::string value_of(const toml::node& node, const std::string& key) {
  if (const auto text = node.value_exact<std::string>()) return *text;
  if (const auto number = node.value_exact<int64_t>()) return std::to_string(*number);
  if (const auto number = node.value_exact<double>()) return text_of(*number);
  if (const auto flag = node.value_exact<bool>()) return *flag ? "true" : "false";
  throw error_at(node.source(), key + " must be a text, a number, true, false or a list of these");
}

void add_items(const toml::table& table, std::vector<std::string> parents,
               std::vector<CLI::ConfigItem>& items) {
  for (const auto& [name, node] : table) {
    CLI::ConfigItem item{.parents = parents, .name = std::string(name.str())};
    if (const toml::table* inner = node.as_table()) {
      parents.push_back(item.name);
      add_items(*inner, parents, items);
      parents.pop_back();
      continue;
    }
    if (const toml::array* list = node.as_array()) {
      for (const toml::node& each : *list) item.inputs.push_back(value_of(each, item.name));
    } else {
      item.inputs = {value_of(node, item.name)};
    }
    if (!item.inputs.empty()) items.push_back(std::move(item));
  }
}

class TomlConfig : public CLI::ConfigTOML {
 public:
  std::vector<CLI::ConfigItem> from_config(std::istream& input) const override {
    std::vector<CLI::ConfigItem> items;
    try {
      add_items(toml::parse(input), {}, items);
    } catch (const toml::parse_error& error) {
      throw error_at(error.source(), std::string(error.description()));
    }
    return items;
  }
};

}  // namespace

std::shared_ptr<CLI::Config> toml_config() { return std::make_shared<TomlConfig>(); }

}  // namespace autoresearch
