#include "common/http.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string_view>
#include <vector>

#include "common/text.h"

namespace autoresearch {
namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

// A list such as "localhost, .example.com, *": a name also stands for all below it.
bool is_listed(const std::string& host, std::string_view list) {
  constexpr std::string_view kBetween = ", ";
  while (!list.empty()) {
    const size_t end = std::min(list.find_first_of(kBetween), list.size());
    std::string_view name = list.substr(0, end);
    list.remove_prefix(std::min(end + 1, list.size()));
    if (name == "*") return true;
    if (name.starts_with('.')) name.remove_prefix(1);
    if (name.empty() || !host.ends_with(name)) continue;
    if (host.size() == name.size() || host[host.size() - name.size() - 1] == '.') return true;
  }
  return false;
}

// The host of a URL, without port and brackets: "localhost", "::1".
std::string host_name(const std::string& url) {
  const std::string place = host_and_port(url);
  if (place.starts_with('[')) return place.substr(1, place.find(']') - 1);
  return place.substr(0, place.find(':'));
}

}  // namespace

// A proxy's address needs no scheme.
std::string host_and_port(const std::string& url) {
  const size_t scheme = url.find("://");
  const size_t begin = scheme == std::string::npos ? 0 : scheme + 3;
  const std::string place = url.substr(begin, url.find_first_of("/?#", begin) - begin);
  return lower(place.substr(place.rfind('@') + 1));
}

bool is_loopback(const std::string& url) {
  const std::string host = host_name(url);
  const bool address = host.find_first_not_of("0123456789.") == std::string::npos;
  return host == "localhost" || host.ends_with(".localhost") || host == "::1" ||
         host == "0.0.0.0" || (address && host.starts_with("127."));
}

Authorities authorities() {
  Authorities found;
  // REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE may name a folder, too.
  for (const char* name :
       {"CURL_CA_BUNDLE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR"}) {
    const std::string path = variable(name);
    std::error_code none;
    const bool folder =
        std::string_view(name) == "SSL_CERT_DIR" || std::filesystem::is_directory(path, none);
    std::string& place = folder ? found.folder : found.file;
    if (path.empty() || !place.empty()) continue;
    place = path;
    if (found.variable.empty()) found.variable = name;
  }
  return found;
}

std::string certificate_advice() {
  const Authorities named = authorities();
  const std::string where = named.file.empty() ? named.folder : named.file;
  if (!named.variable.empty())
    return "; $" + named.variable + " names " + where +
           ", which must hold the authority that signed it";
  return "; if an authority of your own signed it, set SSL_CERT_FILE to that authority's .pem file";
}

std::optional<Proxy> proxy_for(const std::string& url) {
  if (is_loopback(url)) return std::nullopt;
  std::string exceptions = variable("no_proxy");
  if (exceptions.empty()) exceptions = variable("NO_PROXY");
  if (is_listed(host_name(url), lower(exceptions))) return std::nullopt;
  // libcurl passes over HTTP_PROXY, which a web server sets from a visitor's header.
  std::vector<const char*> names = {"http_proxy", "all_proxy", "ALL_PROXY"};
  if (lower(url).starts_with("https:"))
    names = {"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"};
  for (const char* name : names)
    if (const std::string value = variable(name); !value.empty())
      return Proxy{name, host_and_port(value)};
  return std::nullopt;
}

}  // namespace autoresearch
