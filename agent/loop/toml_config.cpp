#include "agent/loop/toml_config.h"

#include <toml++/toml.h>

#include <algorithm>
#include <charconv>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "common/error.h"

namespace autoresearch {
namespace {

Error error_at(const toml::source_region& place, const std::string& words) {
  return Error("line " + std::to_string(place.begin.line) + " of " + *place.path + ": " + words,
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

std::vector<std::string> options_of(const CLI::App& run) {
  std::vector<std::string> names;
  for (const CLI::Option* option : run.get_options())
    if (option->get_configurable())
      for (const std::string& name : option->get_lnames()) names.push_back(name);
  return names;
}

// How many characters have to be put in, left out or replaced to make `b` of `a`.
size_t typos(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t corner = std::exchange(row[0], i + 1);
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replaced = corner + (a[i] == b[j] ? 0 : 1);
      corner = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, corner + 1});
    }
  }
  return row.back();
}

std::string no_such_option(const std::string& name, const std::vector<std::string>& options) {
  const auto nearest = std::min_element(options.begin(), options.end(),
                                        [&](const std::string& one, const std::string& other) {
                                          return typos(name, one) < typos(name, other);
                                        });
  std::string words = "there is no option " + name;
  if (nearest != options.end() && typos(name, *nearest) <= std::max<size_t>(2, name.size() / 3))
    words += " (did you mean " + *nearest + "?)";
  return words;
}

CLI::ConfigItem item_of(const CLI::App& run, const std::string& name, const toml::node& node) {
  CLI::ConfigItem item{.parents = {run.get_name()}, .name = name};
  if (const toml::array* list = node.as_array()) {
    for (const toml::node& each : *list) item.inputs.push_back(value_of(each, name));
  } else {
    item.inputs = {value_of(node, name)};
  }
  return item;
}

std::vector<CLI::ConfigItem> items_of(const toml::table& file, const CLI::App& run) {
  const std::string place = "; options stand under [" + run.get_name() + "]";
  const std::vector<std::string> options = options_of(run);
  const auto known = [&](const std::string& name) {
    return std::find(options.begin(), options.end(), name) != options.end();
  };
  std::vector<CLI::ConfigItem> items;
  for (const auto& [key, section] : file) {
    const std::string title(key.str());
    if (!section.is_table())
      throw error_at(key.source(), (known(title) ? title + " stands before any section"
                                                 : no_such_option(title, options)) +
                                       place);
    if (title != run.get_name())
      throw error_at(key.source(), "there is no section [" + title + "]" + place);
    for (const auto& [word, value] : *section.as_table()) {
      const std::string name(word.str());
      if (!known(name)) throw error_at(word.source(), no_such_option(name, options) + place);
      CLI::ConfigItem item = item_of(run, name, value);
      if (!item.inputs.empty()) items.push_back(std::move(item));
    }
  }
  return items;
}

class TomlConfig : public CLI::ConfigTOML {
 public:
  TomlConfig(const CLI::Option& file, const CLI::App& run) : file_(file), run_(run) {}

  std::vector<CLI::ConfigItem> from_config(std::istream& input) const override {
    try {
      return items_of(toml::parse(input, file_.as<std::string>()), run_);
    } catch (const toml::parse_error& error) {
      throw error_at(error.source(), std::string(error.description()));
    }
  }

 private:
  const CLI::Option& file_;
  const CLI::App& run_;
};

}  // namespace

void add_config_file(CLI::App& app, CLI::App& run) {
  const std::string words = "TOML file; the options of run stand under [run]";
  const CLI::Option& file = *app.set_config("--config", "", words);
  app.config_formatter(std::make_shared<TomlConfig>(file, run));
  run.fallthrough();
  run.footer("  --config FILE               " + words);  // fallthrough options are not in its list
}

}  // namespace autoresearch
