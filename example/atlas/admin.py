from django.contrib import admin

from atlas.models import City, Continent, Country, Currency, Language

admin.site.register([Continent, Currency, Language])


@admin.register(Country)
class CountryAdmin(admin.ModelAdmin):
    list_display = ("name", "iso", "continent", "currency", "population")
    list_filter = ("continent",)
    list_select_related = ("continent", "currency")
    search_fields = ("name", "iso")
    filter_horizontal = ("languages", "neighbours")


@admin.register(City)
class CityAdmin(admin.ModelAdmin):
    list_display = ("name", "country", "population", "timezone", "updated")
    list_select_related = ("country",)
    search_fields = ("name",)
    autocomplete_fields = ("country",)
