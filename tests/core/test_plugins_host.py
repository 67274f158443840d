"""The plugin host, with plugins registered in code; tests/packaging has them in wheels."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from micro_core import Codec, ConfigError, Node, PluginError, PluginNotFound, Registry, Selector, build, hookimpl
from micro_core._plugins.host import PluginHost
from micro_core._plugins.scan import installed, refresh
from micro_core.config import Part, parse_part


class FirstSelector(Selector):
    name = "first"

    def __init__(self, *, skip: int = 0) -> None:
        self.skip = skip

    def select(self, service: str, nodes: Sequence[Node]) -> Node:
        return nodes[self.skip]


class Good:
    @hookimpl
    def make_selector(self, options: Mapping[str, str]) -> Selector:
        return build(FirstSelector, options)


def host_with(plugin: object, kind: str = "selector") -> PluginHost:
    host = PluginHost()
    host.register(kind, "mine", plugin)
    return host


def make(host: PluginHost, text: str = "mine", kind: str = "selector", **made: Any) -> Any:
    return host.make(parse_part(kind, text, "flag --selector"), **made)


def test_hook_gets_what_the_configuration_string_says() -> None:
    class Plugin:
        @hookimpl
        def make_selector(self, name: str, address: Sequence[str], path: str, options: Mapping[str, str]) -> Selector:
            seen.extend([name, address, path, dict(options)])
            return FirstSelector()

    seen: list[Any] = []
    make(host_with(Plugin()), "mine://a:1,b:2/p?x=y")

    assert seen == ["mine", ("a:1", "b:2"), "/p", {"x": "y"}]


def test_options_reach_the_constructor() -> None:
    assert make(host_with(Good()), "mine://?skip=2").skip == 2


def test_built_in_parts_are_made() -> None:
    assert isinstance(make(PluginHost(), "random"), Selector)
    assert isinstance(make(PluginHost(), "memory", "registry"), Registry)


def test_codecs_come_as_a_tuple() -> None:
    codecs = make(PluginHost(), "json", "codec")

    assert isinstance(codecs, tuple)
    assert all(isinstance(codec, Codec) for codec in codecs)


def test_registered_plugin_belongs_to_its_host_alone() -> None:
    host_with(Good())

    with pytest.raises(PluginNotFound):
        make(PluginHost())


def test_unknown_option_is_a_plugin_error_and_a_config_error() -> None:
    with pytest.raises(PluginError, match=r"selector 'mine' .*no option 'skpi'; did you mean 'skip'") as error:
        make(host_with(Good()), "mine://?skpi=2")

    assert isinstance(error.value, ConfigError)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("random://?colour=red", r"selector 'random' .*: it has no option 'colour'; it takes none"),
        ("random://10.0.0.5:1", r"selector 'random' .*: it takes no address; write 'random' without one"),
        ("random:///etc/dice", r"selector 'random' .*: it takes no path; write 'random' without one"),
    ],
)
def test_what_nobody_would_read_is_refused(text: str, told: str) -> None:
    with pytest.raises(PluginError, match=told) as error:
        make(PluginHost(), text)

    assert isinstance(error.value, ConfigError)


@pytest.mark.parametrize(
    ("result", "named"), [(None, "None"), (7, "type int"), (FirstSelector, "the class FirstSelector")]
)
def test_wrong_return_type_is_told(result: object, named: str) -> None:
    class Plugin:
        @hookimpl
        def make_selector(self) -> Any:
            return result

    with pytest.raises(PluginError, match=f"make_selector returned .*{named}, not a Selector"):
        make(host_with(Plugin()))


@pytest.mark.parametrize("result", [[], [7], "json", None])
def test_wrong_return_type_among_codecs_is_told(result: object) -> None:
    class Plugin:
        @hookimpl
        def make_codec(self) -> Any:
            return result

    with pytest.raises(PluginError, match="not a Codec"):
        make(host_with(Plugin(), "codec"), kind="codec")


def test_exception_in_a_hook_is_told_with_its_cause() -> None:
    class Plugin:
        @hookimpl
        def make_selector(self) -> Selector:
            raise ValueError("no\nluck")

    with pytest.raises(PluginError, match="make_selector raised ValueError: no luck") as error:
        make(host_with(Plugin()))

    assert isinstance(error.value.__cause__, ValueError)


def test_plugin_error_of_a_hook_keeps_its_reason() -> None:
    class Plugin:
        @hookimpl
        def make_selector(self) -> Selector:
            raise PluginError("needs a library in C")

    with pytest.raises(PluginError, match=r"selector 'mine' .*: needs a library in C"):
        make(host_with(Plugin()))


@pytest.mark.parametrize(
    ("plugin", "cause"),
    [
        (SimpleNamespace(make_selector=lambda: None), "'make_selector' is no hook without @hookimpl"),
        (SimpleNamespace(make_selectr=lambda: None), "'make_selectr' is no hook without @hookimpl"),
        (SimpleNamespace(lifespan=lambda: None), "'lifespan' is no hook without @hookimpl"),
        (SimpleNamespace(make_selectr=hookimpl(lambda: None)), "unknown hook.*did you mean 'make_selector'"),
        (SimpleNamespace(make_selector=hookimpl(lambda adress: None)), "adress.*not be found in the hookspec"),
    ],
)  # fmt: skip
def test_plugin_whose_hooks_do_not_fit_is_refused(plugin: object, cause: str) -> None:
    with pytest.raises(PluginError, match=cause):
        host_with(plugin)


def test_other_functions_named_make_are_the_plugins_own() -> None:
    class Plugin(Good):
        def make_socket(self) -> None:
            """Belong to the plugin."""

    assert make(host_with(Plugin()))


def test_plugin_without_the_hook_of_its_kind_is_told() -> None:
    with pytest.raises(PluginError, match="has no hook make_registry; its hooks: make_selector"):
        make(host_with(Good(), "registry"), kind="registry")


def test_arguments_of_a_hook_are_complete() -> None:
    with pytest.raises(TypeError, match=r"make_broker.*registry"):
        make(PluginHost(), "memory", "broker")


@pytest.mark.parametrize(
    "call", [lambda host: host.register("regsitry", "x", Good()), lambda host: make(host, kind="x")]
)
def test_unknown_kind_is_told(call: Any) -> None:
    with pytest.raises(ConfigError, match="kinds: registry, selector"):
        call(PluginHost())


def test_instance_of_the_kind_is_accepted_and_others_are_refused() -> None:
    host = PluginHost()

    host.check("selector", FirstSelector())
    with pytest.raises(
        ConfigError, match="selector= takes a configuration string or a Selector, not an object of type int"
    ):
        host.check("selector", 7)
    with pytest.raises(
        ConfigError, match=r"not the class FirstSelector; make an instance: selector=FirstSelector\(…\)"
    ):
        host.check("selector", FirstSelector)


# Extensions


class Tracing:
    def __init__(self, name: str, seen: list[str]) -> None:
        self.name, self.seen = name, seen

    @hookimpl
    def client_middleware(self) -> Any:
        async def layer(call: Any, call_next: Any) -> Any:
            return await call_next(call)

        layer.__name__ = self.name
        return layer

    @hookimpl
    def lifespan(self, service: Any) -> Any:
        @asynccontextmanager
        async def life() -> AsyncIterator[None]:
            yield

        self.seen.append(service)
        return life()

    @hookimpl(wrapper=True)
    def make_selector(self, name: str) -> Iterator[None]:
        self.seen.append(f"{self.name} before {name}")
        made = yield
        self.seen.append(f"{self.name} after {name}")
        return made


def extensions(*texts: str) -> list[Part]:
    return [parse_part("extension", text, "a test") for text in texts]


def host_with_extensions(**extensions: object) -> PluginHost:
    host = PluginHost()
    for name, extension in extensions.items():
        host.register("extension", name, extension)
    return host


def test_first_named_extension_is_the_outermost() -> None:
    seen: list[str] = []
    host = host_with_extensions(a=Tracing("a", seen), b=Tracing("b", seen))
    host.use_extensions(extensions("b", "a"))

    assert [layer.__name__ for layer in host.middleware("client")] == ["b", "a"]
    assert isinstance(make(host, "random"), Selector)
    assert seen == ["b before random", "a before random", "a after random", "b after random"]


def test_extension_that_is_not_named_takes_no_part() -> None:
    seen: list[str] = []
    host = host_with_extensions(a=Tracing("a", seen))

    make(host, "random")
    assert (host.middleware("client"), seen) == ((), [])


def test_hooks_that_an_extension_does_not_have_give_nothing() -> None:
    host = host_with_extensions(a=Tracing("a", []))
    host.use_extensions(extensions("a"))

    assert (host.middleware("call"), host.middleware("handler"), host.middleware("subscriber")) == ((), (), ())


def test_lifespans_get_the_service() -> None:
    seen: list[Any] = []
    host = host_with_extensions(a=Tracing("a", seen))
    host.use_extensions(extensions("a"))

    assert len(host.lifespans("the service")) == 1  # type: ignore[arg-type]
    assert seen == ["the service"]


def test_extension_that_makes_a_part_itself_is_refused() -> None:
    host = host_with_extensions(a=Good())

    with pytest.raises(PluginError, match="make_selector of an extension has to be a wrapper"):
        host.use_extensions(extensions("a"))


def test_extension_with_a_wrong_result_is_told() -> None:
    host = host_with_extensions(
        a=SimpleNamespace(client_middleware=hookimpl(lambda: 7), lifespan=hookimpl(lambda: 7)),
    )
    host.use_extensions(extensions("a"))

    with pytest.raises(PluginError, match="client_middleware returned an object of type int, not a Callable"):
        host.middleware("client")
    with pytest.raises(PluginError, match="lifespan returned an object of type int, not a AbstractAsyncContextManager"):
        host.lifespans(None)  # type: ignore[arg-type]


class Configured:
    def __init__(self, *, header: str = "") -> None:
        self.header = header

    @hookimpl
    def credentials(self) -> Mapping[str, str]:
        return {"X-Header": self.header}


def test_an_extension_is_made_once_for_what_its_configuration_string_says() -> None:
    made: list[Any] = []

    def make_extension(name: str, address: Sequence[str], path: str, options: Mapping[str, str]) -> object:
        made.append((name, tuple(address), path))
        return build(Configured, options)

    host = host_with_extensions(mine=SimpleNamespace(make_extension=hookimpl(make_extension)))
    host.use_extensions(extensions("mine://10.0.0.5:80/etc/x?header=a%2Cb"))

    assert host.credentials() == {"X-Header": "a,b"}
    assert host.guards() == host.lifespans(None) == ()  # type: ignore[arg-type]
    assert made == [("mine", ("10.0.0.5:80",), "/etc/x")]


@pytest.mark.parametrize(
    ("extension", "text", "told"),
    [
        (Configured(), "mine://?header=x", "it has no option 'header'; it takes none"),
        (Configured(), "mine:///etc/x", "it takes no path"),
        (Configured(), "mine://10.0.0.5:80", "it takes no address"),
        (SimpleNamespace(make_extension=hookimpl(lambda: None)), "mine", "make_extension returned None, which has no"),
        (SimpleNamespace(make_extension=hookimpl(lambda: 7)), "mine", "of type int, which has no hooks"),
        (
            SimpleNamespace(make_extension=hookimpl(lambda: Configured()), guard=hookimpl(lambda: None)),
            "mine",
            "the hook guard belongs to what make_extension returns",
        ),
        (
            SimpleNamespace(make_extension=hookimpl(lambda options: build(Configured, options))),
            "mine://?haeder=x",
            "Configured has no option 'haeder'; did you mean 'header'?",
        ),
        (
            SimpleNamespace(make_extension=hookimpl(lambda: Good())),
            "mine",
            "make_selector of an extension has to be a wrapper",
        ),
    ],
)
def test_extension_that_does_not_fit_its_configuration_is_told(extension: object, text: str, told: str) -> None:
    host = host_with_extensions(mine=extension)

    with pytest.raises(PluginError) as refused:
        host.use_extensions(extensions(text))
    assert told in refused.value.detail


def test_unknown_extension_is_told() -> None:
    with pytest.raises(PluginNotFound, match=r"extension 'otel' not found; installed: none .from a test."):
        PluginHost(allow=["micro-core"]).use_extensions(extensions("otel"))


def test_failing_wrapper_is_named() -> None:
    class Failing:
        @hookimpl(wrapper=True)
        def make_selector(self) -> Iterator[None]:
            yield
            raise ValueError("oops")

    host = host_with_extensions(bad=Failing())
    host.use_extensions(extensions("bad"))

    with pytest.raises(PluginError, match=r"selector 'random' of .*wrapped by extension 'bad' .*: oops"):
        make(host, "random")


# The listing


def test_listing_names_the_built_ins_with_version_and_origin() -> None:
    (random,) = [one for one in installed() if (one.kind, one.name) == ("selector", "random")]

    assert (random.distribution, random.value) == ("micro-core", "micro_core.builtin.selectors.random")
    assert random.version
    assert random.origin


def test_listing_is_kept_until_it_is_refreshed() -> None:
    before = installed()

    assert installed() is before
    assert refresh() is not before
    assert installed() == before
